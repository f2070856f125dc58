"""Max pooling of maps that are too large to draw."""

from dataclasses import dataclass
from math import ceil

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.arguments import Count, checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.translation import tr

MAX_SIDE = 1024
"""Maximum rows, and maximum columns, of a map that is drawn: about a million cells."""


@dataclass(frozen=True, repr=False, eq=False)
class Pooled(EqualByValue, Displayed):
    """A map pooled in blocks of `row_step` by `column_step`; each value is a block's maximum."""

    values: Float[Tensor, "row column"]
    row_step: int
    column_step: int

    @property
    def is_exact(self) -> bool:
        """True if every cell of the map has its own value."""
        return self.row_step == 1 and self.column_step == 1

    def _summary(self) -> Summary:
        rows, columns = self.values.shape
        block = f"{self.row_step} × {self.column_step}"
        return Summary(
            tr("Pooled map"), {tr("values"): f"{rows} × {columns}", tr("cells per value"): block}
        )


@checked
def steps(values: Float[Tensor, "row column"], *, max_side: Count = MAX_SIDE) -> tuple[int, int]:
    """Block size, in rows and columns, that gives at most `max_side` blocks along each side."""
    n_rows, n_columns = values.shape
    return max(1, ceil(n_rows / max_side)), max(1, ceil(n_columns / max_side))


@checked
def max_pool(values: Float[Tensor, "row column"], *, max_side: Count = MAX_SIDE) -> Pooled:
    """The map itself if it has at most `max_side` rows and columns, else its block maxima.

    NaN marks a cell without a value; a block is NaN only if all its cells are.
    """
    n_rows, n_columns = values.shape
    row_step, column_step = steps(values, max_side=max_side)
    if row_step == column_step == 1:
        return Pooled(values, 1, 1)
    rows, columns = ceil(n_rows / row_step), ceil(n_columns / column_step)
    padded = values.new_full((rows * row_step, columns * column_step), -torch.inf)
    padded[:n_rows, :n_columns] = values.nan_to_num(nan=-torch.inf)
    largest = padded.reshape(rows, row_step, columns, column_step).amax(dim=(1, 3))
    return Pooled(largest.masked_fill(largest == -torch.inf, torch.nan), row_step, column_step)
