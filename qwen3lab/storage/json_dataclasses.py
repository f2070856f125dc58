"""Dataclasses to JSON values and back.

A nested class that has `to_dict` and `from_dict`, such as a model's config, is stored in that form;
every other dataclass is stored field by field.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args, get_origin

from cattrs import Converter
from cattrs.gen import make_dict_structure_fn

T = TypeVar("T")
PLAIN_TYPES = {int: (int,), str: (str,), bool: (bool,), float: (float, int)}
"""What a field of each plain type may be in JSON: cattrs alone would convert "0" and 0.5 to 0."""


def unstructure(value: Any) -> Any:
    """A dataclass, or a container of them, as values that `json.dumps` accepts."""
    return _CONVERTER.unstructure(value)


def structure(kind: type[T], fields: Any, *, ignore_extra: bool = False) -> T:
    """A dataclass from what `json.loads` returned, by the types that its fields declare.

    Args:
        kind: the dataclass.
        fields: a mapping of its values by field name; those with a default may be absent.
        ignore_extra: accept names that are no fields of `kind`.

    Raises:
        ValueError: a field is missing, unknown, or has a value of another type.
    """
    try:
        return _builder(kind, ignore_extra)(fields, kind)
    except Exception as error:  # cattrs has no common base class for what hooks raise.
        raise ValueError(f"this is no {kind.__name__}: {error!r}") from error


@functools.cache
def _builder(kind: type[T], ignore_extra: bool) -> Callable[[Any, type[T]], T]:
    """Code for the fields of one class, which does not call its own `from_dict`."""
    return make_dict_structure_fn(kind, _CONVERTER, _cattrs_forbid_extra_keys=not ignore_extra)


def _unchanged(value: Any, kind: type[Any], *, accepted: tuple[type, ...]) -> Any:
    if type(value) not in accepted:
        raise ValueError(f"{repr(value)[:40]} is no {kind.__name__}")
    return kind(value)


def _has_int_keys(kind: Any) -> bool:
    return get_origin(kind) in (dict, Mapping) and get_args(kind)[0] is int


def _with_int_keys(fields: Any, kind: Any) -> dict[int, Any]:
    """A mapping by integers, whose keys are texts in JSON."""
    of = get_args(kind)[1]
    return {_int_key(key): _CONVERTER.structure(value, of) for key, value in fields.items()}


def _int_key(key: Any) -> int:
    if not isinstance(key, str) or str(number := int(key)) != key:
        raise ValueError(f"{repr(key)[:40]} is no integer as a JSON key")
    return number


def _has_dict_form(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "to_dict") and hasattr(kind, "from_dict")


def _converter() -> Converter:
    converter = Converter(detailed_validation=False, forbid_extra_keys=True)
    converter.register_unstructure_hook_func(_has_dict_form, lambda value: value.to_dict())
    for kind, accepted in PLAIN_TYPES.items():
        converter.register_structure_hook(kind, functools.partial(_unchanged, accepted=accepted))
    converter.register_structure_hook_func(
        _has_dict_form, lambda fields, kind: kind.from_dict(fields)
    )
    converter.register_structure_hook_func(_has_int_keys, _with_int_keys)
    return converter


_CONVERTER = _converter()
