"""Reading typed fields out of a published `config.json`."""

from collections.abc import Mapping
from reprlib import repr as shown
from typing import Any

from qwen3lab.errors import ConfigError

MOST = 1e30
"""Of a number that need not be whole."""
LARGEST = 2**24
"""No size of a model that exists is near it."""


def size(
    fields: Mapping[str, Any], *names: str, default: int | None = None, most: int = LARGEST
) -> int:
    """The first of `names` that has a value; they are generations' names for one size.

    Args:
        fields: of the file.
        names: of the field.
        default: what is meant where nothing is said; None if something must be.
        most: above which it is a mistake, or made to use up memory.

    Raises:
        ConfigError: it is missing, no whole number, or too large.
    """
    value = next((fields[name] for name in names if fields.get(name) is not None), default)
    if value is None:
        raise ConfigError(f"config.json has no {' or '.join(names)}: a Qwen3 config needs it")
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(
            f"config.json gives {names[0]} as {shown(value)}: expected a whole number"
        )
    if value > most:
        raise ConfigError(
            f"config.json gives {names[0]} as {shown(value)}: expected {most} at most"
        )
    return value


def number(fields: Mapping[str, Any], name: str, *, default: float | None = None) -> float:
    """A positive number that is not infinite."""
    value = fields[name] if fields.get(name) is not None else default
    if value is None:
        raise ConfigError(f"config.json has no {name}: a Qwen3 config needs it")
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= MOST:
        raise ConfigError(f"config.json gives {name} as {shown(value)}: expected a positive number")
    return float(value)


def flag(fields: Mapping[str, Any], name: str) -> bool:
    """A switch; off where nothing is said, as in `transformers`."""
    value = fields.get(name) or False
    if not isinstance(value, bool):
        raise ConfigError(f"config.json gives {name} as {shown(value)}: expected true or false")
    return value
