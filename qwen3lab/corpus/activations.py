"""Activations of a part's texts: of every token, or one value for each text."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from qwen3lab.corpus.plan import positions_of
from qwen3lab.storage.checked_tensors import save_checked

ROWS, STARTS = "rows", "starts"
"""Tensors of a shard: the row of each text, and where its tokens start in full activations."""


class Activations:
    """Collects the activations that a part keeps.

    Args:
        reduce: what is kept of each hook, for each text.
        full: hooks that are kept for every token.
    """

    def __init__(self, reduce: Mapping[str, str], full: Sequence[str]) -> None:
        self.reduce, self.full = dict(reduce), tuple(full)
        self._texts: list[tuple[int, int, dict[str, Tensor]]] = []

    def add(self, row: int, n_tokens: int, values: Mapping[str, Tensor]) -> None:
        """Add the activations of one text, by hook; the first axis is the token."""
        kept = {
            reduced_name(hook): reduced(values[hook], positions_of(hook, how))
            for hook, how in self.reduce.items()
        }
        self._texts.append((row, n_tokens, kept | {hook: values[hook] for hook in self.full}))

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the shard, in the order of the rows: texts or tokens along the first axis."""
        texts = sorted(self._texts, key=lambda each: each[0])
        lengths = torch.tensor([n for _, n, _ in texts], dtype=torch.int64)
        tensors = {
            ROWS: torch.tensor([row for row, _, _ in texts], dtype=torch.int64),
            STARTS: lengths.cumsum(0) - lengths,
        }
        for name in map(reduced_name, self.reduce):
            tensors[name] = torch.stack([kept[name] for _, _, kept in texts])
        for hook in self.full:
            tensors[hook] = torch.cat([kept[hook] for _, _, kept in texts])
        save_checked({name: each.contiguous() for name, each in tensors.items()}, path, metadata)


def reduced_name(hook: str) -> str:
    """Name of the tensor in a shard that holds one value of a hook for each text."""
    return f"{hook}.reduced"


def reduced(
    values: Shaped[Tensor, "token ..."], positions: Sequence[int] | None
) -> Float[Tensor, "*kept"]:
    """The mean over the tokens, or the values at positions; NaN for one that the text lacks.

    A single position has no axis of its own.
    """
    values = values.float()
    if positions is None:
        return values.double().mean(dim=0).float()
    n = len(values)
    absent = torch.full_like(values[0], torch.nan)
    kept = torch.stack([values[at] if -n <= at < n else absent for at in positions])
    return kept[0] if len(positions) == 1 else kept
