"""Matrices of a quantised checkpoint as they are stored, with what decodes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.checkpoints.formats.packed_format import Grouped
from qwen3lab.checkpoints.safetensors_reader import TensorSource
from qwen3lab.checkpoints.tensor_names import StoredPart

DECODING_BYTES_PER_VALUE = 16
"""Peak memory of decoding: integers, zeros, scales and weights of four bytes each."""


@dataclass(frozen=True)
class PackedTensor:
    """A matrix as it is stored.

    Attributes:
        parts: its tensors, by name.
        decode: computes the matrix, in float32, on the device of the parts.
        grouped: gives four-bit integers with their groups, or None if it is stored otherwise.
    """

    parts: Mapping[str, Tensor]
    decode: Callable[[Mapping[str, Tensor]], Float[Tensor, "row column"]]
    grouped: Callable[[Mapping[str, Tensor]], Grouped | None]


@runtime_checkable
class PackedSizes(Protocol):
    """Shapes of tensors by published name, and the bytes of those that are packed."""

    def names(self) -> set[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def packed_bytes(self, name: str) -> int | None: ...


@runtime_checkable
class PackedSource(TensorSource, PackedSizes, Protocol):
    """Tensors of a checkpoint some of which are packed."""

    @property
    def described(self) -> str: ...

    def packed(self, part: StoredPart) -> PackedTensor | None: ...


def kept_bytes(weights: PackedSizes, dtype: torch.dtype) -> int:
    """Bytes of a model whose matrices inside the blocks stay packed, and of decoding the largest.

    Args:
        weights: of the checkpoint.
        dtype: of all other weights.
    """
    total, largest = 0, 0
    for name in weights.names():
        n_values, packed = torch.Size(weights.shape(name)).numel(), weights.packed_bytes(name)
        if packed is None or not name.startswith("model.layers."):
            total += n_values * dtype.itemsize
        else:
            total, largest = total + packed, max(largest, n_values)
    return total + largest * DECODING_BYTES_PER_VALUE
