"""Reads typed and bounded fields from a published `config.json`."""

import warnings
from collections.abc import Iterable, Mapping, Set
from reprlib import repr as shown
from typing import Any

from qwen3lab.display.plain import one_line
from qwen3lab.errors import ConfigError

MAX_NUMBER = 1e30
"""Upper bound of a floating-point field."""
MAX_SIZE = 2**24
"""Default upper bound of an integer field; far above the sizes of existing models."""
MAX_NAMES = 8
"""Unused fields that a warning names."""


def size(
    fields: Mapping[str, Any], *names: str, default: int | None = None, most: int = MAX_SIZE
) -> int:
    """An integer field, read from the first of `names` that has a value.

    Args:
        fields: of the file.
        names: names of the field in different generations of the file format.
        default: the value of a missing field; None if the field is required.
        most: upper bound; protects against files that would exhaust the memory.

    Raises:
        ConfigError: the field is missing, null, not an integer, or above `most`.
    """
    refuse_null(fields, *names)
    value = next((fields[name] for name in names if name in fields), default)
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
    """A positive, finite number field.

    Raises:
        ConfigError: the field is missing without a default, or not such a number.
    """
    refuse_null(fields, name)
    value = fields.get(name, default)
    if value is None:
        raise ConfigError(f"config.json has no {name}: a Qwen3 config needs it")
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= MAX_NUMBER:
        raise ConfigError(f"config.json gives {name} as {shown(value)}: expected a positive number")
    return float(value)


def flag(fields: Mapping[str, Any], name: str) -> bool:
    """A boolean field; False if missing, as in `transformers`.

    Raises:
        ConfigError: the field is not a boolean.
    """
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise ConfigError(f"config.json gives {name} as {shown(value)}: expected true or false")
    return value


def refuse_null(fields: Mapping[str, Any], *names: str) -> None:
    """Check that fields which may be missing are not null.

    Raises:
        ConfigError: one of them is.
    """
    for name in names:
        if name in fields and fields[name] is None:
            raise ConfigError(
                f"config.json gives {name} as null, which transformers refuses: write its value, "
                "or leave the field out"
            )


def refuse_two_values(fields: Mapping[str, Any], *names: str) -> None:
    """Check that names of one setting do not have two values.

    Raises:
        ConfigError: two of the fields differ.
    """
    given = {name: fields[name] for name in names if fields.get(name) is not None}
    first = next(iter(given), "")
    for name, value in given.items():
        if value != given[first]:
            raise ConfigError(
                f"config.json gives {first} as {shown(given[first])} and {name} as {shown(value)}:"
                " both mean the same, so remove the wrong one"
            )


def warn_about_unused(fields: Iterable[str], known: Set[str], where: str) -> None:
    """Name the fields that are not used in one warning.

    Args:
        fields: of the file.
        known: fields that are used, or have no effect.
        where: the file, or the part of it, for the message.
    """
    unused = sorted(str(name) for name in fields if name not in known)
    if unused:
        more = f" and {len(unused) - MAX_NAMES} more" if len(unused) > MAX_NAMES else ""
        names = ", ".join(repr(one_line(name, width=60)) for name in unused[:MAX_NAMES])
        warnings.warn(
            f"{where} has fields that are used neither here nor by transformers' Qwen3: "
            f"{names}{more}; code that uses them computes other numbers",
            stacklevel=2,
        )
