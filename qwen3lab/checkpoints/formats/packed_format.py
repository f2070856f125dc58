"""What all formats of quantised checkpoints have in common: a matrix stored as several tensors."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.errors import CheckpointError
from qwen3lab.storage.tensor_header import StoredTensor

INTEGER_WORDS = ("I32",)
FLOATS = ("F16", "BF16", "F32")
ReadPart = Callable[[str], Tensor]
"""Reads a part of a module, by the end of its name."""


@dataclass(frozen=True)
class Grouped:
    """A matrix of four-bit integers in groups along the inputs: W = scale * q + offset.

    Attributes:
        q: from 0 to 15.
        scale: of each group, float32.
        offset: of each group, float32.
        size: inputs in a group.
    """

    q: Int[Tensor, "out in"]
    scale: Float[Tensor, "out group"]
    offset: Float[Tensor, "out group"]
    size: int

    def decoded(self) -> Float[Tensor, "out in"]:
        """The matrix, but for the rounding of `scale * q + offset`."""
        q = self.q.float().unflatten(1, (-1, self.size))
        return (self.scale[..., None] * q + self.offset[..., None]).flatten(1)


class PackedFormat(ABC):
    """How a checkpoint stores the weight matrix of a module.

    Attributes:
        method: the `quant_method` of config.json.
        name: as people call the format, such as "GPTQ".
        parts: the tensors that belong to a module, by the end of their names; True for those that
            every packed module has.
        marker: the part that shows that a module is packed.
        scale_part: the part whose dtype is that of the model's activations; empty if none is.
    """

    method: ClassVar[str]
    name: ClassVar[str]
    parts: ClassVar[Mapping[str, bool]]
    marker: ClassVar[str]
    scale_part: ClassVar[str] = ""

    @property
    @abstractmethod
    def described(self) -> str:
        """Format and settings, such as "GPTQ, 4 bits in groups of 128"."""

    @property
    def note(self) -> str:
        """What the decoded weights do not reproduce; empty if nothing."""
        return ""

    def is_packed(self, stored: Mapping[str, StoredTensor]) -> bool:
        """True if the tensors that a module has in this format are packed."""
        return self.marker in stored

    @abstractmethod
    def shape(
        self, module: str, stored: Mapping[str, StoredTensor], read: ReadPart
    ) -> tuple[int, ...]:
        """The shape [out, in] of a module's matrix, or [expert, out, in] of a stack.

        Args:
            module: its name.
            stored: headers of the parts that it has.
            read: reads a small part that the shape depends on.

        Raises:
            CheckpointError: dtypes or shapes of the parts do not belong together.
        """

    @abstractmethod
    def decode(self, module: str, tensors: Mapping[str, Tensor]) -> Float[Tensor, "*any out in"]:
        """The matrix or stack in float32, of parts whose shapes were checked.

        Raises:
            CheckpointError: a part has a value that no writer of this format writes.
        """

    def grouped(self, module: str, tensors: Mapping[str, Tensor]) -> Grouped | None:
        """The matrix as four-bit integers in consecutive groups; None if it is stored otherwise.

        Args:
            module: its name.
            tensors: parts that `decode` has decoded without an error.
        """
        return None

    def check_parts(self, module: str, stored: Mapping[str, StoredTensor]) -> None:
        """Raises `CheckpointError` if a part that every module has is missing."""
        missing = [part for part, needed in self.parts.items() if needed and part not in stored]
        if missing:
            raise CheckpointError(
                f"{module}.{missing[0]} is missing, without which {self.name} weights cannot be "
                "decoded: fetch the files of the model again"
            )

    def expect_axes(
        self, module: str, stored: Mapping[str, StoredTensor], axes: Mapping[str, int]
    ) -> None:
        """Raises `CheckpointError` if a part has another number of axes."""
        for part, n_axes in axes.items():
            if len(stored[part].shape) != n_axes or not all(stored[part].shape):
                raise CheckpointError(
                    f"{module}.{part} has shape {stored[part].shape}: expected {n_axes} axes with "
                    "values"
                )

    def expect(
        self,
        module: str,
        part: str,
        stored: Mapping[str, StoredTensor],
        codes: tuple[str, ...],
        shape: tuple[int, ...],
    ) -> None:
        """Raises `CheckpointError` if a part has another dtype or shape."""
        found = stored[part]
        if found.code not in codes or found.shape != shape:
            raise CheckpointError(
                f"{module}.{part} is stored as {found.code} of shape {found.shape}: {self.name} "
                f"weights of this size need {' or '.join(codes)} of shape {shape}"
            )


def shared(n_values: int, size: int) -> Int[Tensor, " value"]:
    """The place of what each value shares with the others of its group of `size`."""
    return torch.arange(n_values) // min(size, max(n_values, 1))  # A size may exceed 64 bits.


def grouped(size: int) -> str:
    """How many inputs share a scale, in words."""
    return "one group" if size == -1 else f"groups of {size}"
