"""What an argument can mean: decided by the annotation of its parameter, in one place.

`checked` decorates a public function. Integers and numbers of NumPy and torch become those of
Python; everything that an annotation does not allow is refused by name, before any work.
"""

import functools
import inspect
import math
import operator
import os
import types
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, fields
from pathlib import Path
from reprlib import repr as shown
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import jaxtyping

from qwen3lab.translation import later, tr


@dataclass(frozen=True)
class Range:
    """The smallest and the largest value of a number, part of its annotation."""

    least: int | float
    most: int | float = math.inf


Count = Annotated[int, Range(1)]
"""An integer of 1 or more."""
CountOrNone = Annotated[int, Range(0)]
"""An integer of 0 or more."""
Seed = Annotated[int, Range(0, 2**61 - 2)]
"""Of a random choice; other integers would give the same choices as one of these."""
Share = Annotated[float, Range(0, 1)]
"""A number from 0 to 1."""

Function = TypeVar("Function", bound=Callable[..., Any])

NUMBERS = {"Float": later("real numbers"), "Int": later("integers"), "Bool": later("booleans")}
EXPECTED = later(": expected ")
"""Between what was given and what would fit."""


def is_whole(value: object) -> bool:
    """True for an integer of Python, NumPy or torch; False for a bool."""
    if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
        return False
    try:
        operator.index(cast(Any, value))
    except (TypeError, ValueError):
        return False
    return True


def whole(value: Any, name: str, *, least: int | None = None, most: int | None = None) -> int:
    """An integer as Python's own.

    Args:
        value: the argument.
        name: of the argument, for the message.
        least: smallest value.
        most: largest value.

    Raises:
        ValueError: it is no integer, or outside of the range.
    """
    if not is_whole(value):
        raise _refused(_is(name, value), tr("an integer"))
    number = operator.index(value)
    low, high = -math.inf if least is None else least, math.inf if most is None else most
    if not low <= number <= high:
        raise _refused(_is(name, number), _range(low, high))
    return number


def real(value: Any, name: str) -> float:
    """A number that is not NaN, as Python's float.

    Raises:
        ValueError: it is no number.
    """
    is_number = isinstance(value, int | float) or getattr(value, "ndim", None) == 0
    kind = str(getattr(value, "dtype", "")) + type(value).__name__
    if is_number and not any(other in kind for other in ("bool", "complex", "str", "object")):
        try:
            number = float(value)
        except OverflowError as error:
            raise _refused(_is(name, value), tr("a smaller number")) from error
        if not math.isnan(number):
            return number
    raise _refused(_is(name, value), tr("a number"))


def checked(function: Function) -> Function:
    """Decorator that checks each argument against the annotation of its parameter.

    Sizes of axes that have the same name must agree between the arguments of a call.

    Raises:
        ValueError: an argument does not fit; the message names it and says what is expected.
    """
    signature = inspect.signature(function)
    kinds = {
        name: each.annotation
        for name, each in signature.parameters.items()
        if each.annotation is not each.empty and each.kind is not each.VAR_KEYWORD
    }

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        bound = signature.bind(*args, **options)
        with jaxtyping.jaxtyped("context"):  # In it, an axis has one size.
            for name, value in bound.arguments.items():
                kind = kinds.get(name, object)
                if _is_array(kind):
                    if not isinstance(value, kind):
                        raise ValueError(_wrong_array(kind, name, value))
                else:
                    bound.arguments[name] = argument(kind, name, value)
        return function(*bound.args, **bound.kwargs)

    return cast(Function, call)


def check_fields(instance: Any) -> None:
    """Check the fields of a frozen dataclass in its `__post_init__`, as `checked` does arguments.

    Raises:
        ValueError: a field does not fit.
    """
    for field in fields(instance):
        value = argument(field.type, field.name, getattr(instance, field.name))
        object.__setattr__(instance, field.name, value)


def argument(kind: Any, name: str, value: Any) -> Any:
    """The value of one argument.

    Args:
        kind: annotation of its parameter.
        name: of the parameter.
        value: what was given.

    Raises:
        ValueError: the annotation does not allow it.
    """
    if kind in (Any, object):
        return value
    if get_origin(kind) is Annotated:
        return _in_range(argument(get_args(kind)[0], name, value), name, get_args(kind)[1])
    if get_origin(kind) in (Union, types.UnionType):
        return _one_of(get_args(kind), name, value)
    if kind in (int, float):
        return whole(value, name) if kind is int else real(value, name)
    if _is_array(kind):
        if not isinstance(value, kind):
            raise ValueError(_wrong_array(kind, name, value))
        return value
    if get_origin(kind) is Sequence or get_origin(kind) is Iterable:
        return _listed(kind, name, value)
    if get_origin(kind) is Mapping:
        return _expected(isinstance(value, Mapping), name, value, tr("a mapping such as a dict"))
    if get_origin(kind) is Callable:
        return _expected(callable(value), name, value, tr("a function"))
    if kind is bool:
        return _expected(isinstance(value, bool), name, value, tr("True or False"))
    if kind is str:
        return _expected(isinstance(value, str), name, value, tr("a text"))
    if kind is slice:
        return _slice(name, value)
    if kind is Path:
        return _expected(isinstance(value, os.PathLike), name, value, tr("a path"))
    if get_origin(kind) is frozenset:
        return _expected(isinstance(value, frozenset), name, value, tr("a frozenset"))
    if get_origin(kind) is Literal:
        allowed = get_args(kind)
        listed = tr(" or ").join(map(repr, allowed))
        return _expected(isinstance(value, str) and value in allowed, name, value, listed)
    if get_origin(kind) is tuple:
        return _tuple(get_args(kind), name, value)
    if not isinstance(kind, type) or get_origin(kind) is not None:
        return value
    return _expected(isinstance(value, kind), name, value, kind.__name__)


def _in_range(value: Any, name: str, allowed: object) -> Any:
    if not isinstance(allowed, Range) or allowed.least <= value <= allowed.most:
        return value
    raise _refused(_is(name, value), _range(allowed.least, allowed.most))


def _range(least: int | float, most: int | float) -> str:
    if most == math.inf:
        return tr("{least} or more", least=least)
    return tr("{least} to {most}", least=least, most=most)


def _slice(name: str, value: Any) -> slice:
    """A slice of integers with a positive step."""
    _expected(isinstance(value, slice), name, value, tr("a slice such as slice(0, 2)"))
    ends = (value.start, value.stop, value.step)
    start, stop, step = (None if end is None else whole(end, name) for end in ends)
    if step is not None and step < 1:
        raise _refused(_is(tr("the step of {name}", name=name), step), _range(1, math.inf))
    return slice(start, stop, step)


def _tuple(kinds: Sequence[Any], name: str, value: Any) -> Any:
    """A tuple of a fixed length, or of one kind of items (`tuple[int, ...]`)."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise _refused(_is(name, value), tr("a tuple"))
    inner = [kinds[0]] * len(value) if kinds[-1] is ... else kinds
    if len(inner) != len(value):
        raise _refused(_is(name, value), tr("{n} values", n=len(inner)))
    pairs = enumerate(zip(inner, value, strict=True))
    return tuple(argument(kind, f"{name}[{place}]", each) for place, (kind, each) in pairs)


def _is_a(value: object, *names: str) -> bool:
    """True for an instance of a class of one of these names; its library is not imported for it."""
    return any(f"{each.__module__}.{each.__qualname__}" in names for each in type(value).__mro__)


def _expected(fits: bool, name: str, value: Any, what: str) -> Any:
    if not fits:
        raise _refused(_is(name, value), what)
    return value


def _is(name: str, value: Any) -> str:
    return tr("{name} is {value}", name=name, value=shown(value))


def _refused(given: str, expected: str) -> ValueError:
    return ValueError(given + tr(EXPECTED) + expected)


def _one_of(kinds: Sequence[Any], name: str, value: Any) -> Any:
    """The value under the first kind that allows it; the message lists what all expect."""
    if value is None and type(None) in kinds:
        return None
    messages = []
    for kind in (each for each in kinds if each is not type(None)):
        try:
            return argument(kind, name, value)
        except ValueError as error:
            messages.append(str(error))
    expected = [message.rpartition(tr(EXPECTED))[2] for message in messages]
    expected += ["None"] * (type(None) in kinds)
    given = messages[0].rpartition(tr(EXPECTED))[0]
    raise _refused(given, tr(" or ").join(dict.fromkeys(expected)))


def _listed(kind: Any, name: str, value: Any) -> Any:
    """Several values, each checked; what can be read only once becomes a list."""
    refused = (str, bytes, Mapping, *((Set,) if get_origin(kind) is Sequence else ()))
    if not isinstance(value, Iterable) or isinstance(value, refused):
        raise _refused(_is(name, value), tr("a list"))
    inner = get_args(kind)[0]
    if _is_a(value, "torch.Tensor", "numpy.ndarray"):
        value = cast(Any, value).tolist()
    if not isinstance(value, Iterable):  # It was a single number.
        raise _refused(_is(name, value), tr("a list"))
    listed = list(value)
    items = [argument(inner, f"{name}[{place}]", each) for place, each in enumerate(listed)]
    same = isinstance(value, Sequence) and all(map(operator.is_, items, listed))
    return value if same else items


def _is_array(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, jaxtyping.AbstractArray)


def _wrong_array(kind: Any, name: str, value: Any) -> str:
    """Says what tensor an annotation of jaxtyping states, and what was given."""
    axes = f"({', '.join(kind.dim_str.split())})"
    numbers = tr(NUMBERS.get(kind.__name__.partition("[")[0], later("numbers")))
    if not _is_a(value, "torch.Tensor"):
        expected = tr("a tensor of {numbers} {axes}", numbers=numbers, axes=axes)
        return str(_refused(_is(name, value), expected))
    found = str(value.dtype).removeprefix("torch.")
    return tr(
        "{name} is a tensor of {found} with the shape {shape}: expected {numbers} "
        "with the axes {axes}, of the same sizes as in the other arguments",
        name=name,
        found=found,
        shape=tuple(value.shape),
        numbers=numbers,
        axes=axes,
    )
