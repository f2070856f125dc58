"""Which rows of a matrix are equal, such as the embeddings of tokens that were never trained."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

ROWS_AT_ONCE = 2**14


@dataclass(frozen=True)
class EqualRows:
    """Groups of equal rows.

    Attributes:
        first: the first row of each group, ascending.
        order: the rows, by group, and ascending in each.
        start: where the group of each item of `first` starts in `order`.
    """

    first: Int[Tensor, " group"]
    order: Int[Tensor, " row"]
    start: Int[Tensor, " group"]

    @classmethod
    def of(cls, matrix: Float[Tensor, "row d"]) -> "EqualRows":
        """Sort rows by a weighted sum of their values, and compare neighbours of the same sum."""
        weights = torch.rand(matrix.shape[1], generator=torch.Generator().manual_seed(0))
        weights = weights.to(matrix)
        sums = torch.cat([(part * weights).sum(dim=1) for part in matrix.split(ROWS_AT_ONCE)])
        sums, order = sums.sort(stable=True)
        is_equal = sums[1:] == sums[:-1]
        for part in is_equal.nonzero()[:, 0].split(ROWS_AT_ONCE):
            is_equal[part] = (matrix[order[part]] == matrix[order[part + 1]]).all(dim=1)
        start = torch.cat([is_equal.new_zeros(1), is_equal]).logical_not().nonzero()[:, 0]
        first, by_first = order[start].sort()
        return cls(first, order, start[by_first])

    def equal_to(self, first: int) -> list[int]:
        """The rows of a group, ascending.

        Args:
            first: the first of them.
        """
        start = int(self.start[torch.searchsorted(self.first, first)])
        ends = self._starts[self._starts > start]
        return self.order[start : int(ends[0]) if len(ends) else None].tolist()

    @cached_property
    def _starts(self) -> Int[Tensor, " group"]:
        return self.start.sort().values
