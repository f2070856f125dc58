"""What the options of `record`, `generate` and `chat` can be; all else is refused."""

import operator
import threading
from collections.abc import Iterable
from reprlib import repr as shown
from typing import Any

from qwen3lab.generation.sampling import Sampling
from qwen3lab.generation.thinking_control import Extension, Steering

INTEGERS = {"max_new_tokens": False, "seed": True}
"""Options that are integers; True if they may be None."""
SEEDS = range(-(2**63), 2**64)
"""Seeds that torch's generator accepts."""
CLASSES = {
    "sampling": Sampling,
    "extend": Extension,
    "steering": Steering,
    "cancel": threading.Event,
}


def checked_option(name: str, value: Any) -> Any:
    """One option of a call; integers of NumPy and torch become those of Python.

    Raises:
        ValueError: the value is of another type, or a seed is too large; the message names the
            option.
    """
    if name in INTEGERS and not (INTEGERS[name] and value is None):
        if isinstance(value, bool) or not _is_index(value):
            raise ValueError(_wrong(name, value, "an integer"))
        if name == "seed" and operator.index(value) not in SEEDS:
            raise ValueError(f"seed is {value}: expected an integer from -2**63 to 2**64 - 1")
        return operator.index(value)
    if name in CLASSES and value is not None and not isinstance(value, CLASSES[name]):
        raise ValueError(_wrong(name, value, f"{CLASSES[name].__name__} or None"))
    if name == "on_step" and value is not None and not callable(value):
        raise ValueError(_wrong(name, value, "a function or None"))
    if name == "thinking" and not (value is None or isinstance(value, bool)):
        raise ValueError(_wrong(name, value, "True, False or None"))
    if name in ("capture", "record"):
        _check_hooks(name, value)
    return value


def _check_hooks(name: str, value: Any) -> None:
    if name == "record" and isinstance(value, bool):
        return
    if isinstance(value, str) or (isinstance(value, Iterable) and not isinstance(value, bytes)):
        return
    kinds = "True, False, a hook name" if name == "record" else "a hook name"
    raise ValueError(_wrong(name, value, f"{kinds} or several"))


def _is_index(value: Any) -> bool:
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def _wrong(name: str, value: Any, expected: str) -> str:
    return f"{name} is {shown(value)}: expected {expected}"
