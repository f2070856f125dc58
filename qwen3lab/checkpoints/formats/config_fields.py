"""Reads fields of a `quantization_config`, with one sentence for each that is not understood."""

from collections.abc import Mapping
from reprlib import repr as shown
from typing import Any

from qwen3lab.errors import CheckpointError


def chosen(fields: Mapping[str, Any], name: str, allowed: tuple[Any, ...], format: str) -> Any:
    """The value of a field, which must be one of those allowed; the first one if it is absent.

    Raises:
        CheckpointError: it is another one.
    """
    value = fields.get(name, allowed[0])
    if not any(type(value) is type(each) and value == each for each in allowed):
        options = ", ".join(str(each) for each in allowed)
        raise CheckpointError(
            f"quantization_config gives {name} as {shown(value)}, which is not read for {format}: "
            f"expected one of {options}; load another release of the model"
        )
    return value


def whole(fields: Mapping[str, Any], name: str, format: str) -> int:
    """An integer field that must be there.

    Raises:
        CheckpointError: it is absent, or no integer.
    """
    value = fields.get(name)
    if type(value) is not int:
        raise CheckpointError(
            f"quantization_config gives {name} as {shown(value)}: expected an integer for {format}"
        )
    return value


def group_size(fields: Mapping[str, Any], format: str) -> int:
    """The number of inputs that share a scale; -1 for all.

    Raises:
        CheckpointError: no such number.
    """
    size = whole(fields, "group_size", format)
    if size != -1 and size < 1:
        raise CheckpointError(
            f"quantization_config gives group_size as {size}: expected -1, or more than 0"
        )
    return size
