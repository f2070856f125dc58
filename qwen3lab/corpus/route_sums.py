"""Counts of pairs of experts, and of tokens by expert, summed over many texts at a time."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int, UInt

MAX_PENDING_TOKENS = 2**16
"""Tokens whose routes wait to be counted: 25 MB with 48 layers and 8 experts of 128."""
MAX_PENDING_KEYS = 2**22
"""Entries of the counts by token that wait to be added up: 64 MB."""
PAIRED_TOKENS = 2**12
"""Tokens whose pairs of experts are counted at once: 1 MB for 8 experts each."""
MAX_CELLS = 2**20
"""Cells of a table of tokens and experts that is counted at once: it stays in the caches."""
TOKENS = 2**32
"""More than there are token ids."""

Keyed = tuple[np.ndarray, np.ndarray]
"""Keys in ascending order, each once, and their counts."""


class RouteSums:
    """Sums of routes that do not depend on labels.

    Counting costs the same for a batch of any size, so routes wait until they are many.

    Args:
        n_layers: number of layers with experts.
        n_experts: in each of them.
    """

    def __init__(self, n_layers: int, n_experts: int) -> None:
        self.n_layers, self.n_experts = n_layers, n_experts
        self._together = np.zeros((n_layers, n_experts, n_experts), np.int64)
        self._next = np.zeros((max(n_layers - 1, 0), n_experts, n_experts), np.int64)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._by_token: list[Keyed] = []

    def add(
        self, chosen: UInt[np.ndarray, "layer token k"], token_ids: Int[np.ndarray, " token"]
    ) -> None:
        """Add the routes of tokens; `n_experts` stands for no expert."""
        if not len(token_ids):
            return
        self._waiting.append((chosen, token_ids))
        if sum(len(ids) for _, ids in self._waiting) >= MAX_PENDING_TOKENS:
            self._count_waiting()

    @property
    def together(self) -> Int[np.ndarray, "layer expert other"]:
        """Tokens that were routed to both experts."""
        self._count_waiting()
        return self._together

    @property
    def next(self) -> Int[np.ndarray, "transition expert next_expert"]:
        """Tokens that were routed to an expert, and to one of the next layer."""
        self._count_waiting()
        return self._next

    def by_token(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Row of the layer, token id, expert and slots, where there are any."""
        self._count_waiting()
        keys, slots = self._by_token[0] if len(self._by_token) == 1 else merged(self._by_token)
        cells, expert = np.divmod(keys, self.n_experts)
        return *np.divmod(cells, TOKENS), expert, slots

    def _count_waiting(self) -> None:
        if not self._waiting:
            return
        chosen = np.concatenate([each for each, _ in self._waiting], axis=1)
        token_ids = np.concatenate([ids for _, ids in self._waiting])
        self._waiting = []
        for start in range(0, len(token_ids), PAIRED_TOKENS):
            self._add_pairs(chosen[:, start : start + PAIRED_TOKENS])
        self._by_token.append(self._cells(chosen, token_ids))
        sizes = [len(keys) for keys, _ in self._by_token]
        # Sums wait until they are as many as before, so that each is merged a few times only.
        if sum(sizes[1:]) > max(MAX_PENDING_KEYS, sizes[0]):
            self._by_token = [merged(self._by_token)]

    def _add_pairs(self, chosen: UInt[np.ndarray, "layer token k"]) -> None:
        before = None
        for layer, routes in enumerate(chosen):
            ranks = torch.from_numpy(np.ascontiguousarray(routes.T, np.int32))
            self._together[layer] += self._table(ranks, ranks)
            if before is not None:
                self._next[layer - 1] += self._table(before, ranks)
            before = ranks

    def _table(
        self, one: Int[torch.Tensor, "k token"], other: Int[torch.Tensor, "k token"]
    ) -> Int[np.ndarray, "expert other"]:
        """How often each pair of experts occurs; slots without an expert are left out."""
        width = self.n_experts + 1
        cells = (one * width)[:, None] + other
        return (
            torch.bincount(cells.ravel(), minlength=width**2).view(width, width).numpy()[:-1, :-1]
        )

    def _cells(
        self, chosen: UInt[np.ndarray, "layer token k"], token_ids: Int[np.ndarray, " token"]
    ) -> Keyed:
        """Slots of each layer, token id and expert."""
        words, place = np.unique(token_ids, return_inverse=True)
        order = np.argsort(place, kind="stable")
        place, step = place[order], max(MAX_CELLS // (self.n_experts + 1), 1)
        firsts = range(0, len(words), step)
        ends = [0, *place.searchsorted([first + step for first in firsts])]
        keys, slots = list[np.ndarray](), list[np.ndarray]()
        for layer, routes in enumerate(chosen):
            routes = routes[order]
            for first, start, end in zip(firsts, ends, ends[1:], strict=False):
                table = self._by_word(place[start:end] - first, routes[start:end])
                at, expert = table.nonzero()
                keys.append((layer * TOKENS + words[first + at]) * self.n_experts + expert)
                slots.append(table[at, expert])
        return np.concatenate(keys), np.concatenate(slots)

    def _by_word(self, place: np.ndarray, routes: np.ndarray) -> np.ndarray:
        width = self.n_experts + 1
        cells = (place[:, None] * width + routes).ravel()
        found = np.bincount(cells, minlength=(place[-1] + 1) * width)
        return found.reshape(-1, width)[:, :-1]


def merged(parts: Sequence[Keyed]) -> Keyed:
    """The sums of counts of the same key."""
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    keys = np.concatenate([keys for keys, _ in parts])
    order = np.argsort(keys, kind="stable")  # It merges the parts, which are sorted.
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[starts], np.add.reduceat(np.concatenate([n for _, n in parts])[order], starts)
