"""The largest entries of a product of two tall matrices, exactly, without building the product.

Blocks of the product are computed in low precision, with a proven bound of each entry's error.
Only entries that could be among the largest within that bound are computed again, in float64.
Blocks whose entries are all too small by the lengths of their rows (Cauchy-Schwarz) are skipped.
"""

import heapq
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.analysis.bounded_products import BoundedProducts, block_size
from qwen3lab.analysis.equal_rows import EqualRows
from qwen3lab.analysis.workers import run_in_workers
from qwen3lab.errors import NonFiniteError
from qwen3lab.translation import tr

PROGRESS_DELAY_SECONDS = 2.0
MAX_EXACT_PAIRS = 2**22
"""Entries of a product that is small enough to be computed in float64 throughout."""

MAX_CANDIDATES = 2**16
"""Pairs whose vectors are gathered at once."""

FLOAT64_ROUNDING = 1e-15
"""Relative error of one float64 operation, rounded up."""


@dataclass(frozen=True)
class Entries:
    """Entries of a matrix, in order: largest first; equal ones by row, then by column."""

    values: Float[Tensor, " n"]
    rows: Int[Tensor, " n"]
    columns: Int[Tensor, " n"]


def largest_products(
    left: Float[Tensor, "row d"],
    right: Float[Tensor, "column d"],
    n: int,
    *,
    description: str | None = None,
) -> Entries:
    """The `n` largest entries of `left @ right.T`; all of them if there are fewer.

    Entries that are equal, such as those of equal rows, are taken by row and then by column. Only
    where more than `MAX_CANDIDATES` pairs of different rows in one block are equal up to the
    rounding of float64, any of them may be taken.

    Args:
        left: in float64, on the device that computes.
        right: in float64, on the same device.
        n: number of entries.
        description: of the progress bar, which appears after `PROGRESS_DELAY_SECONDS`.

    Raises:
        NonFiniteError: a value is NaN or infinite.
    """
    for name, matrix in {"left": left, "right": right}.items():
        if not bool(matrix.sum().isfinite()):
            raise NonFiniteError(
                tr(
                    "the circuit's {name} factor has values that are NaN or infinite, so its "
                    "largest entries are not defined: check the weights of this layer and "
                    "the embedding",
                    name=name,
                )
            )
    rows, columns = EqualRows.of(left), EqualRows.of(right)
    search = _Search(left, right, rows.first, columns.first, n)
    search.run(description)
    best = search.best
    found = zip(best.values.tolist(), best.rows.tolist(), best.columns.tolist(), strict=True)
    equal = (
        _equal_entries(value, rows.equal_to(row), columns.equal_to(column))
        for value, row, column in found
    )
    first = list(islice(heapq.merge(*equal), n))
    negative, row, column = torch.tensor(first, dtype=torch.float64).T
    return Entries(-negative, row.long(), column.long())


def _equal_entries(
    value: float, rows: Sequence[int], columns: Sequence[int]
) -> Iterator[tuple[float, int, int]]:
    """The entries of equal rows with equal columns, to be sorted in the order of `Entries`."""
    return ((-value, row, column) for row in rows for column in columns)


class _Search:
    """One search: rows sorted by the largest entry that they can have, columns by length.

    The mean of the columns is subtracted, which adds one value per row to its entries: keys have a
    large mean, and the error bound grows with the lengths of what is left.
    """

    def __init__(
        self,
        left: Float[Tensor, "row d"],
        right: Float[Tensor, "column d"],
        rows: Int[Tensor, " chosen"],
        columns: Int[Tensor, " chosen_column"],
        n: int,
    ) -> None:
        self.left, self.right, self.n = left, right, min(n, len(rows) * len(columns))
        self.mean = right.mean(dim=0)
        length = torch.cat([(part - self.mean).norm(dim=1) for part in right.split(MAX_CANDIDATES)])
        self.column_length, order = length[columns].sort(descending=True, stable=True)
        self.columns = columns[order]
        longest, mean_length = float(self.column_length[0]), float(self.mean.norm())
        base, length = left @ self.mean, left.norm(dim=1)
        slack = 4 * len(self.mean) * FLOAT64_ROUNDING * length * (longest + mean_length)
        self.reach, order = (base + length * longest + slack)[rows].sort(
            descending=True, stable=True
        )
        self.rows = rows[order]
        self.base, self.row_length = base[self.rows], length[self.rows]
        self.slack = slack[self.rows]
        self.best = Entries(left.new_zeros(0), rows[:0], rows[:0])
        self._bounded: BoundedProducts | None = None
        self._lock = threading.Lock()

    @property
    def least(self) -> float:
        """What an entry must have to be among the best; minus infinity until `n` are found."""
        values = self.best.values
        return float(values[-1]) if len(values) == self.n else -torch.inf

    def run(self, description: str | None) -> None:
        """Go through all blocks that can have one of the largest entries."""
        height, _ = block_size(self.left.device)
        blocks = [
            slice(start, min(start + height, len(self.rows)))
            for start in range(0, len(self.rows), height)
        ]
        options = {"delay": PROGRESS_DELAY_SECONDS, "leave": False, "desc": description}
        with tqdm(total=len(self.rows), unit=tr("row"), unit_scale=True, **options) as bar:
            run_in_workers(
                self._search_rows,
                blocks,
                self.left.device,
                lambda rows: bar.update(rows.stop - rows.start),
            )

    def _search_rows(self, rows: slice) -> None:
        if float(self.reach[rows.start]) < self.least:
            return
        _, width = block_size(self.left.device)
        for first in range(0, len(self.columns), width):
            if first >= self._n_columns(rows):
                return
            self._search_block(rows, slice(first, min(first + width, len(self.columns))))

    def _n_columns(self, rows: slice) -> int:
        """How many columns are long enough to have one of the largest entries in these rows."""
        missing = self.least - self.base[rows] - self.slack[rows]
        # 0/0: an entry of 0 in a row of zeros, which every column reaches.
        needed = (missing / self.row_length[rows]).nan_to_num(0, torch.inf, -torch.inf).min()
        return int(torch.searchsorted(-self.column_length, -needed, right=True))

    def _search_block(self, rows: slice, columns: slice) -> None:
        is_small = len(self.rows) * len(self.columns) <= MAX_EXACT_PAIRS
        if is_small or self.least == -torch.inf:
            return self._add_exactly(torch.arange(rows.start, rows.stop), columns)
        bounded = self._bounded_products()
        products = bounded.product(rows, columns)
        limit = bounded.limit(
            self.least - self.base[rows] - self.slack[rows],
            self.row_length[rows],
            float(self.column_length[columns.start]),
            rows,
            columns,
        )
        hit = (products.amax(dim=1) >= limit).nonzero()[:, 0]
        if not len(hit):
            return None
        is_candidate = products[hit] >= limit[hit, None]
        if int(is_candidate.sum()) > MAX_CANDIDATES:
            return self._add_exactly(hit + rows.start, columns)
        return self._add(is_candidate, hit + rows.start, columns)

    def _bounded_products(self) -> BoundedProducts:
        """Rounded when they are first needed, once for all workers."""
        with self._lock:
            if self._bounded is None:
                matrices = self.left, self.right
                self._bounded = BoundedProducts(*matrices, self.rows, self.columns, self.mean)
            return self._bounded

    def _add_exactly(self, rows: Int[Tensor, " chosen"], columns: slice) -> None:
        """Add the best entries of a block, all of them computed in float64."""
        rows = rows.to(self.left.device)
        products = self.left[self.rows[rows]] @ self.right[self.columns[columns]].T
        best = products.flatten().topk(min(self.n, products.numel()))
        rounding = 2 * float(self.slack[rows].max())
        is_candidate = products >= max(float(best.values[-1]), self.least) - rounding
        if int(is_candidate.sum()) > MAX_CANDIDATES + self.n:
            is_candidate = torch.zeros_like(is_candidate)
            is_candidate.view(-1)[best.indices] = True
        self._add(is_candidate, rows, columns)

    def _add(
        self,
        is_candidate: Bool[Tensor, "chosen column"],
        rows: Int[Tensor, " chosen"],
        columns: slice,
    ) -> None:
        """Compute entries in float64, one by one, and keep the best."""
        names = self.columns[columns]
        for chunk in is_candidate.nonzero().split(MAX_CANDIDATES):
            row, column = self.rows[rows[chunk[:, 0]]], names[chunk[:, 1]]
            values = (self.left[row] * self.right[column]).sum(dim=1)
            keep = values >= self.least
            with self._lock:
                found = Entries(values[keep], row[keep], column[keep])
                self.best = _best(self.best, found, self.n)


def _best(best: Entries, more: Entries, n: int) -> Entries:
    values = torch.cat([best.values, more.values])
    rows = torch.cat([best.rows, more.rows])
    columns = torch.cat([best.columns, more.columns])
    order = columns.argsort(stable=True)
    order = order[rows[order].argsort(stable=True)]
    order = order[values[order].argsort(descending=True, stable=True)][:n]
    return Entries(values[order], rows[order], columns[order])
