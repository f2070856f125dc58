"""What each expert adds, over a corpus: lengths of its outputs, alone and with its weight."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.corpus.counting import Routed, smallest_unsigned

if TYPE_CHECKING:
    import pyarrow

OUT = "blocks.{}.mlp.hook_expert_out"


@dataclass(frozen=True)
class Lengths:
    """Sizes of the outputs of one text's chosen experts, before they are weighted.

    Attributes:
        norms: Euclidean norm of each output.
        peaks: largest absolute value of each output.
    """

    norms: Float[np.ndarray, "layer token k"]
    peaks: Float[np.ndarray, "layer token k"]


class LengthTap:
    """A tap that keeps norm and peak of each expert's output, and not the output itself.

    Args:
        layers: with experts.
    """

    def __init__(self, layers: Iterable[int]) -> None:
        self.names = tuple(OUT.format(layer) for layer in layers)
        self._norms: dict[str, Tensor] = {}
        self._peaks: dict[str, Tensor] = {}

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Keep the sizes of an expert output, and return it unchanged."""
        if name in self.names:
            self._norms[name] = value.float().norm(dim=-1)
            self._peaks[name] = value.abs().amax(dim=-1).float()
        return value

    def wants(self, name: str) -> bool:
        """True for the outputs of experts."""
        return name in self.names

    def stacked(self) -> Float[Tensor, "two layer batch pos k"]:
        """Norms and peaks of all layers, on the CPU."""
        both = (self._norms, self._peaks)
        return torch.stack([torch.stack([kept[n].cpu() for n in self.names]) for kept in both])


class Saliency:
    """Sums over the slots of each expert.

    They are sums of float64 in the order of the texts, so a part has the same ones wherever it
    runs.

    Args:
        layers: numbers of the layers with experts.
        n_experts: in each of them.
    """

    def __init__(self, layers: Sequence[int], n_experts: int) -> None:
        self.layers, self.n_experts = tuple(layers), n_experts
        shape = (len(self.layers), n_experts)
        self.slots = np.zeros(shape, np.int64)
        self.weights, self.norms, self.gated, self.largest = (np.zeros(shape) for _ in range(4))

    def add(self, texts: Sequence[tuple[Routed, Lengths]]) -> None:
        """Add texts, whose weights are known."""
        for routed, lengths in texts:
            assert routed.weights is not None
            weights, norms = routed.weights.astype(np.float64), lengths.norms.astype(np.float64)
            for layer, experts in enumerate(routed.experts):
                is_slot = experts >= 0
                chosen = experts[is_slot]
                self.slots[layer] += np.bincount(chosen, minlength=self.n_experts)
                for total, values in (
                    (self.weights, weights[layer]),
                    (self.norms, norms[layer]),
                    (self.gated, weights[layer] * norms[layer]),
                ):
                    total[layer] += np.bincount(chosen, values[is_slot], self.n_experts)
                np.maximum.at(self.largest[layer], chosen, lengths.peaks[layer][is_slot])

    def table(self) -> "pyarrow.Table":
        """A row for each expert that has slots."""
        import pyarrow

        at, expert = self.slots.nonzero()
        return pyarrow.table(
            {
                "layer": np.array(self.layers, np.uint16)[at],
                "expert": expert.astype(smallest_unsigned(self.n_experts)),
                "slots": self.slots[at, expert],
                "weight": self.weights[at, expert],
                "norm": self.norms[at, expert],
                "gated_norm": self.gated[at, expert],
                "largest": self.largest[at, expert],
            }
        )
