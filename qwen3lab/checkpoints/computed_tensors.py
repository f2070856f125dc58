"""Tensors of a checkpoint of which some are computed when they are read."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from qwen3lab.checkpoints.safetensors_file import CHUNK_VALUES
from qwen3lab.checkpoints.safetensors_reader import StoredTensors
from qwen3lab.checkpoints.tensor_names import StoredPart
from qwen3lab.checkpoints.value_range import ValueRange
from qwen3lab.device.host_transfer import bring


class ComputedTensors(ABC):
    """Stands in for a reader of files; what is not computed is read from another reader.

    One computed tensor at a time is in memory, in float32.

    Args:
        weights: the reader of what is stored; None if all tensors are computed.
        source: name of the checkpoint, for messages.
    """

    def __init__(self, weights: StoredTensors | None, source: str) -> None:
        self.weights, self.source = weights, source

    @abstractmethod
    def is_computed(self, name: str) -> bool:
        """True for a tensor that is computed."""

    @abstractmethod
    def compute(self, name: str) -> Tensor:
        """A computed tensor, float32.

        Raises:
            CheckpointError: it cannot be computed from what is stored.
        """

    def compute_part(self, part: StoredPart) -> Tensor:
        """A part of a computed tensor, float32; raises the same errors as `compute`."""
        computed = self.compute(part.name)
        return computed if part.entry is None else computed[part.entry]

    @abstractmethod
    def names(self) -> set[str]:
        """Published names of all tensors."""

    def is_base_model(self) -> bool:
        """True if the stored weights are of a model that was saved without any head."""
        return self.weights is not None and self.weights.is_base_model()

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""

    @abstractmethod
    def dtype(self, name: str) -> torch.dtype:
        """The dtype in which a tensor is stored; of a computed one, that of the model.

        Raises:
            CheckpointError: there is no such tensor, or it is not stored as a float type.
        """

    @abstractmethod
    def file_stamps(self) -> list[str]:
        """Current name, size and modification time of every file.

        Raises:
            CheckpointError: a file is missing.
        """

    def tensor(self, name: str) -> Tensor:
        """A tensor, in newly allocated memory; a computed one in float32.

        Raises:
            CheckpointError: a file has changed, or a tensor cannot be computed.
        """
        return self.compute(name) if self.is_computed(name) else self._stored.tensor(name)

    def values(self, name: str) -> Iterator[Tensor]:
        """The values of a tensor, in flat pieces.

        Raises:
            CheckpointError: a file has changed, or a tensor cannot be computed.
        """
        if not self.is_computed(name):
            return self._stored.values(name)
        return iter(self.compute(name).flatten().split(CHUNK_VALUES))

    def fill(self, targets: Iterable[tuple[Tensor, StoredPart]]) -> None:
        """Copy tensors into existing ones of any device and dtype.

        Args:
            targets: pairs of a tensor to fill and the part that it receives.

        Raises:
            CheckpointError: a file is missing or has changed, a tensor cannot be computed, or a
                value is NaN or infinite.
        """
        plain: list[tuple[Tensor, StoredPart]] = []
        for out, part in targets:
            if not self.is_computed(part.name):
                plain.append((out, part))
                continue
            computed = self.compute_part(part)
            found = ValueRange(part.name, self.source)
            found.add(computed)
            found.warn_beyond(out.dtype)
            bring(computed.contiguous().view_as(out), out)
        if plain:
            self._stored.fill(plain)

    @property
    def _stored(self) -> StoredTensors:
        assert self.weights is not None
        return self.weights
