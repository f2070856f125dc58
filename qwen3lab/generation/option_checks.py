"""What the options of `record`, `generate` and `chat` can be; all else is refused."""

from collections.abc import Iterable
from reprlib import repr as shown
from typing import Any

from qwen3lab.arguments import argument
from qwen3lab.device.dtypes import dtype_of
from qwen3lab.translation import tr

SEEDS = range(-(2**63), 2**64)
"""Seeds that torch's generator accepts."""
CHECKED_BY_USE = ("edits", "stop", "budget")
"""Options that the code which uses them checks, with everything that is said about their values."""


def checked_option(name: str, value: Any, kind: Any) -> Any:
    """One option of a call; integers of NumPy and torch become those of Python.

    Args:
        name: of the option.
        value: what was given.
        kind: the type that the option is declared with.

    Raises:
        ValueError: the value is of another type, or a seed is too large; the message names the
            option.
        DtypeError: an unknown dtype.
    """
    if name == "dtype":
        return dtype_of(value)
    if name == "thinking" and not (value is None or isinstance(value, bool)):
        raise ValueError(_wrong(name, value, tr("True, False or None")))
    if name in ("capture", "record"):
        _check_hooks(name, value)
        return value
    if name in CHECKED_BY_USE:
        return value
    value = argument(kind, name, value)
    if name == "seed" and value is not None and value not in SEEDS:
        raise ValueError(
            tr("seed is {value}: expected an integer from -2**63 to 2**64 - 1", value=value)
        )
    return value


def _check_hooks(name: str, value: Any) -> None:
    if name == "record" and isinstance(value, bool):
        return
    if isinstance(value, str) or (isinstance(value, Iterable) and not isinstance(value, bytes)):
        return
    kinds = tr("True, False, a hook name") if name == "record" else tr("a hook name")
    raise ValueError(_wrong(name, value, tr("{kinds} or several", kinds=kinds)))


def _wrong(name: str, value: Any, expected: str) -> str:
    return tr(
        "{name} is {value}: expected {expected}",
        name=name,
        value=shown(value),
        expected=expected,
    )
