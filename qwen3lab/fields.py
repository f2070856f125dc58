"""Reading typed fields out of a published `config.json`."""

from collections.abc import Mapping
from typing import Any


class ConfigError(ValueError):
    """A configuration that this package cannot run; the message says which field and why."""


def size(fields: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    """The first of `names` that has a value; they are generations' names for one size."""
    value = next((fields[name] for name in names if fields.get(name) is not None), default)
    if value is None:
        raise ConfigError(f"config.json has no {' or '.join(names)}: a Qwen3 config needs it")
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"config.json gives {names[0]} as {value!r}: expected a whole number")
    return value


def number(fields: Mapping[str, Any], name: str, *, default: float | None = None) -> float:
    """A positive number."""
    value = fields[name] if fields.get(name) is not None else default
    if value is None:
        raise ConfigError(f"config.json has no {name}: a Qwen3 config needs it")
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise ConfigError(f"config.json gives {name} as {value!r}: expected a positive number")
    return float(value)


def flag(fields: Mapping[str, Any], name: str) -> bool:
    """A switch; off where nothing is said, as in `transformers`."""
    value = fields.get(name) or False
    if not isinstance(value, bool):
        raise ConfigError(f"config.json gives {name} as {value!r}: expected true or false")
    return value
