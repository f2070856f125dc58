"""Equality by value of dataclasses that contain tensors, whose `==` is not a single truth value."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from torch import Tensor


class EqualByValue:
    """A base of dataclasses with `eq=False`: equal if all compared fields are; NaN equals NaN."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self is other or all(
            same_values(getattr(self, field.name), getattr(other, field.name))
            for field in fields(self)  # type: ignore[arg-type]
            if field.compare
        )

    def __hash__(self) -> int:
        """A hash of the fields that are integers or texts; equal objects have equal hashes."""
        values = [getattr(self, field.name) for field in fields(self)]  # type: ignore[arg-type]
        return hash(tuple(value for value in values if isinstance(value, int | str)))


def same_values(one: Any, other: Any) -> bool:
    """True if two values are equal, tensors in dtype and shape, too; NaN equals NaN."""
    if one is other:
        return True
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        same_kind = one.dtype == other.dtype and one.shape == other.shape
        return same_kind and bool(((one == other) | ((one != one) & (other != other))).all())
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return False
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and bool(
            np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")
        )
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_values(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(same_values(a, b) for a, b in pairs)
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)
