"""Parts of attention maps: a window of a head's map, thumbnails, a row or a column.

A long map is not computed in full: blocks of rows are computed and pooled one after another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.analysis.pooling import MAX_SIDE
from qwen3lab.arguments import Count, checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr

BLOCK = 256
THUMB = 32
"""Maximum rows and columns of a thumbnail."""

WALL_GAP = 2
"""Cells between the thumbnails of a wall."""

HOW = ("max", "mean")


@dataclass(frozen=True, repr=False, eq=False)
class MapWindow(EqualByValue, Displayed):
    """A part of a map; each value summarises a block of weights.

    Attributes:
        values: the largest or the mean weight of each block; nan where all keys are later.
        rows: first and past-the-end query.
        columns: first and past-the-end key.
        row_step: queries in a block.
        column_step: keys in a block.
        how: "max" or "mean".
        sampled: True if only the first query of every block was computed.
    """

    values: Float[Tensor, "row column"]
    rows: tuple[int, int]
    columns: tuple[int, int]
    row_step: int
    column_step: int
    how: str
    sampled: bool = False

    @property
    def is_exact(self) -> bool:
        """True if every weight has its own value."""
        return self.row_step == 1 and self.column_step == 1

    def _summary(self) -> Summary:
        block = (
            tr("1 weight")
            if self.is_exact
            else tr(
                "{row_step} × {column_step} weights",
                row_step=self.row_step,
                column_step=self.column_step,
            )
        )
        facts = {
            tr("queries"): tr("{first:,} to {last:,}", first=self.rows[0], last=self.rows[1]),
            tr("keys"): tr("{first:,} to {last:,}", first=self.columns[0], last=self.columns[1]),
            tr("a value"): block
            if self.is_exact
            else tr("{how} of {block}", how=tr(self.how), block=block),
        }
        return Summary(tr("Window of an attention map"), facts)


@checked
def window(
    recording: Recording,
    layer: int,
    head: int,
    *,
    rows: tuple[int, int] | None = None,
    columns: tuple[int, int] | None = None,
    how: str = "max",
    max_side: Count = MAX_SIDE,
    sampled: bool = False,
    on_block: Callable[[int, int], None] | None = None,
) -> MapWindow:
    """A window of one head's map, pooled until it has at most `max_side` rows and columns.

    Args:
        recording: with attention.
        layer: its number.
        head: its number.
        rows: first and past-the-end query; all if None.
        columns: first and past-the-end key; all if None.
        how: value of a block: its "max", or its "mean" without masked (later) keys.
        max_side: maximum rows and columns.
        sampled: compute only the first query of every block: a preview of a long text, in time
            linear in the number of tokens.
        on_block: called with the number of finished blocks and of all blocks; an exception that
            it raises stops the work.

    Raises:
        RecordingError: no such layer or head, or attention was not recorded.
        ValueError: a window outside the text, or another way to pool.
    """
    if how not in HOW:
        raise ValueError(tr("how is {how!r}: choose from {known}", how=how, known=", ".join(HOW)))
    n = len(recording)
    rows, columns = _within(rows, n, "rows"), _within(columns, n, "columns")
    row_step = ceil((rows[1] - rows[0]) / max_side)
    column_step = ceil((columns[1] - columns[0]) / max_side)
    stride = row_step if sampled else 1
    per_block = max(1, BLOCK // row_step) * row_step
    starts = range(rows[0], rows[1], per_block)
    blocks = []
    for done, start in enumerate(starts, 1):
        end = min(start + per_block, rows[1])
        queries = torch.arange(start, end, stride)
        weights = _rows(recording, layer, head, slice(start, end, stride))
        shown = weights[:, columns[0] : columns[1]]
        blocks.append(_pooled(shown, queries, columns[0], row_step // stride, column_step, how))
        if on_block is not None:
            on_block(done, len(starts))
    return MapWindow(torch.cat(blocks), rows, columns, row_step, column_step, how, stride > 1)


@checked
def thumbnails(
    recording: Recording, layer: int, *, side: Count = THUMB
) -> Float[Tensor, "head row column"]:
    """Thumbnails of a layer's heads: sampled queries, largest weight of each block of keys.

    For more than `side` tokens, only evenly spaced queries are computed, `side` at most.

    Args:
        recording: with attention.
        layer: its number.
        side: maximum rows and columns.

    Raises:
        RecordingError: no such layer, or attention was not recorded.
    """
    n = len(recording)
    step = ceil(n / side)
    queries = torch.linspace(0, n - 1, ceil(n / step)).round().long()
    rows = torch.cat(
        [recording.attention.pattern(layer, queries=slice(q, q + 1)) for q in queries.tolist()],
        dim=1,
    )
    return torch.stack([_pooled(head, queries, 0, 1, step, "max") for head in rows])


@checked
def attention_wall(
    recording: Recording,
    layers: Sequence[int],
    *,
    side: Count = THUMB,
    per_row: Count | None = None,
) -> Float[Tensor, "row column"]:
    """Thumbnails of all heads in one map: layers downwards, heads to the right.

    Args:
        recording: with attention.
        layers: numbers of the layers, at least one.
        side: maximum rows and columns of a thumbnail.
        per_row: thumbnails in a row, so that a layer takes several rows; all of a layer if None.

    Returns:
        Weights; NaN for later keys, and in the `WALL_GAP` cells between two thumbnails.

    Raises:
        RecordingError: no such layer, or attention was not recorded.
    """
    if not layers:
        raise ValueError(tr("there are no layers to show: expected at least one"))
    rows = []
    for layer in layers:
        gap = (0, WALL_GAP, 0, WALL_GAP)
        small = F.pad(thumbnails(recording, layer, side=side), gap, value=torch.nan)
        for chunk in small.split(per_row or len(small)):
            missing = (per_row or len(chunk)) - len(chunk)
            whole = F.pad(chunk, (0, 0, 0, 0, 0, missing), value=torch.nan)
            rows.append(torch.cat(list(whole), dim=1))
    return torch.cat(rows, dim=0)[:-WALL_GAP, :-WALL_GAP]


@checked
def looks_at(recording: Recording, layer: int, head: int, token: int) -> Float[Tensor, " token"]:
    """Attention of one query token: a row of the map.

    Raises:
        RecordingError: no such layer or head, or attention was not recorded.
        ValueError: no such token.
    """
    _check_token(recording, token)
    return _rows(recording, layer, head, slice(token, token + 1))[0]


@checked
def looked_at_by(
    recording: Recording, layer: int, head: int, token: int, *, rows: tuple[int, int] | None = None
) -> Float[Tensor, " token"]:
    """Attention to one key token: a column of the map, 0 for earlier queries.

    Args:
        recording: with attention.
        layer: its number.
        head: its number.
        token: position of the key.
        rows: first and past-the-end query; the value of other queries is 0. All if None.

    Raises:
        RecordingError: no such layer or head, or attention was not recorded.
        ValueError: no such token, or rows outside the text.
    """
    _check_token(recording, token)
    n = len(recording)
    first, last = _within(rows, n, "rows")
    column = torch.zeros(n)
    for start in range(max(token, first), last, BLOCK):
        block = slice(start, min(start + BLOCK, last))
        column[block] = _rows(recording, layer, head, block)[:, token]
    return column


def _rows(recording: Recording, layer: int, head: int, rows: slice) -> Float[Tensor, "query key"]:
    n_heads = recording.config.n_heads
    if not -n_heads <= head < n_heads:
        return recording.attention[layer, head]  # Raises the error.
    head %= n_heads
    return recording.attention.pattern(layer, queries=rows, heads=slice(head, head + 1))[0]


def _pooled(
    weights: Float[Tensor, "row column"],
    queries: Int[Tensor, " row"],
    first_key: int,
    row_step: int,
    column_step: int,
    how: str,
) -> Float[Tensor, "pooled_row pooled_column"]:
    """Rows of a map, pooled in blocks; nan for blocks in which all keys are masked.

    Masked keys have weight 0, so they change neither a maximum nor a sum; a mean divides by the
    number of visible keys.
    """
    reduce = torch.amax if how == "max" else torch.sum
    small = reduce(_blocks(weights, column_step), dim=-1)
    small = reduce(_blocks(small.T, row_step), dim=-1).T
    starts = first_key + column_step * torch.arange(small.shape[1])
    ends = (starts + column_step).clamp(max=first_key + weights.shape[1])
    visible = ((queries[:, None] + 1).clamp(max=ends) - starts).clamp(min=0)
    count = _blocks(visible.T, row_step).sum(dim=-1).T
    pooled = small / count if how == "mean" else small
    return pooled.masked_fill(count == 0, torch.nan)


def _blocks(values: Tensor, step: int) -> Tensor:
    """The last axis in blocks of `step`; the last block is padded with zeros."""
    n_padding = -values.shape[-1] % step
    return F.pad(values, (0, n_padding)).unflatten(-1, (-1, step))


def _within(span: Sequence[int] | None, n: int, name: str) -> tuple[int, int]:
    if span is None:
        return 0, n
    first, end = span
    if not 0 <= first < end <= n:
        raise ValueError(
            tr(
                "{name} {first} to {end} are outside the text: expected a range within 0 to {n}",
                name=name,
                first=first,
                end=end,
                n=n,
            )
        )
    return first, end


def _check_token(recording: Recording, token: int) -> None:
    if not 0 <= token < len(recording):
        raise ValueError(
            tr(
                "token {token} does not exist: the text has tokens 0 to {last}",
                token=token,
                last=len(recording) - 1,
            )
        )
