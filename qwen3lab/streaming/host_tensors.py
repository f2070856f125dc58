"""Keeps weights that are read from disk in the host's memory, as they are copied to the device."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from qwen3lab.checkpoints.safetensors_reader import StoredTensors
from qwen3lab.checkpoints.tensor_names import StoredPart

OF_BLOCKS, OF_EXPERTS = "model.layers.", ".experts."


class HostTensors:
    """A checkpoint whose blocks, or whose experts alone, are read and decoded only once.

    The first request reads a tensor, checks it and converts it to the dtype; later ones copy it.

    Args:
        weights: the checkpoint.
        dtype: of the copies in the host's memory.
        only_experts: True to keep nothing but experts, where the device keeps the rest.
    """

    def __init__(self, weights: StoredTensors, dtype: torch.dtype, *, only_experts: bool) -> None:
        self.weights, self._dtype, self.only_experts = weights, dtype, only_experts
        self._kept: dict[StoredPart, Tensor] = {}

    @property
    def host_bytes(self) -> int:
        """Bytes that are kept in the host's memory so far."""
        return sum(value.nbytes for value in self._kept.values())

    def names(self) -> set[str]:
        """Published names of all tensors."""
        return self.weights.names()

    def is_base_model(self) -> bool:
        """True if the stored weights are of a model that was saved without any head."""
        return self.weights.is_base_model()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self.weights.shape(name)

    def tensor(self, name: str) -> Tensor:
        """A tensor, in newly allocated memory."""
        return self.weights.tensor(name)

    def dtype(self, name: str) -> torch.dtype:
        """The dtype in which a tensor is stored."""
        return self.weights.dtype(name)

    def values(self, name: str) -> Iterator[Tensor]:
        """The values of a tensor, in flat pieces."""
        return self.weights.values(name)

    def file_stamps(self) -> list[str]:
        """Name, size and time of change of every file, as they are now."""
        return self.weights.file_stamps()

    def fill(self, targets: Iterable[tuple[Tensor, StoredPart]]) -> None:
        """Copy stored tensors into existing ones; what is kept comes from the host's memory.

        Raises:
            CheckpointError: a file can no longer be read, or a value is NaN or infinite.
        """
        straight = []
        for out, part in targets:
            if self._is_kept(part):
                if part not in self._kept:
                    host = torch.empty(out.shape, dtype=self._dtype)
                    self.weights.fill([(host, part)])
                    self._kept[part] = host
                out.copy_(self._kept[part])
            else:
                straight.append((out, part))
        if straight:
            self.weights.fill(straight)

    def _is_kept(self, part: StoredPart) -> bool:
        return part.name.startswith(OF_BLOCKS) and (
            not self.only_experts or OF_EXPERTS in part.name
        )
