"""Data of the attention explorer's panes, computed from a recording. Draws nothing."""

import html
from collections.abc import Sequence
from math import ceil

from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.attention.profile import HeadProfile
from qwen3lab.analysis.map_windows import (
    THUMB,
    WALL_GAP,
    MapWindow,
    attention_wall,
    looked_at_by,
    looks_at,
)
from qwen3lab.figures.heads import SCORES
from qwen3lab.recording.recording import Recording
from qwen3lab.widgets.components.heatmap import Axis, Heatmap, Span
from qwen3lab.widgets.explorers.attention_state import DIRECTIONS
from qwen3lab.widgets.explorers.chat_compute import MASKED, token_spans

MAX_TOKENS_SHOWN = 2_000
"""Largest number of tokens in the text pane."""


def wall_heatmap(recording: Recording) -> Heatmap:
    """Thumbnails of all heads in one map; `head_at` gives the head of a cell."""
    layers, heads = recording.attention.layers, range(recording.config.n_heads)
    values, side = attention_wall(recording, layers), _side(recording)
    return Heatmap(
        title="Attention of all heads",
        values=values,
        rows=_wall_axis("layer", layers, values.shape[0], side),
        columns=_wall_axis("head", heads, values.shape[1], side),
        value_title="largest weight",
        nothing=MASKED,
    )


def _wall_axis(name: str, numbers: Sequence[int], size: int, side: int) -> Axis:
    """An axis of thumbnails: each cell has the label of its head or layer; ticks are centred."""
    labels = tuple(f"{name} {numbers[place // side]}" for place in range(size))
    middle = (side - WALL_GAP) // 2
    ticks = tuple((place * side + middle, str(number)) for place, number in enumerate(numbers))
    return Axis(name, "", labels, ticks=ticks)


def head_at(recording: Recording, row: int, column: int) -> tuple[int, int]:
    """The layer and head of a cell of `wall_heatmap`."""
    side = _side(recording)
    return recording.attention.layers[row // side], column // side


def frame_on_wall(recording: Recording, layer: int, head: int) -> list[int]:
    """First row, first column, last row and last column of a head's thumbnail."""
    side = _side(recording)
    top, left = recording.attention.layers.index(layer) * side, head * side
    return [top, left, top + side - WALL_GAP - 1, left + side - WALL_GAP - 1]


def _side(recording: Recording) -> int:
    """Number of cells from one thumbnail to the next."""
    n = len(recording)
    return ceil(n / ceil(n / THUMB)) + WALL_GAP


def map_heatmap(recording: Recording, layer: int, head: int, window: MapWindow) -> Heatmap:
    """A window of one head's attention map; exact unless the window had to be pooled."""
    all_tokens = (0, len(recording))
    part = "" if window.rows == window.columns == all_tokens else " (part)"
    return Heatmap(
        title=f"Attention of layer {layer}, head {head}{part}",
        values=window.values,
        rows=_axis("query token", "query", recording, window.rows, window.row_step),
        columns=_axis("key token", "key", recording, window.columns, window.column_step),
        value_title="attention weight",
        nothing=MASKED,
        square=window.rows == window.columns,
        pooled="largest" if window.how == "max" else "mean",
    )


def pooling_note(window: MapWindow) -> str:
    """How the cells of a map were pooled, as one sentence; empty if each is a single weight."""
    if window.is_exact:
        return ""
    which = "largest" if window.how == "max" else "mean"
    if window.sampled:
        return (
            f"preview: one query in {window.row_step}, {which} weight of "
            f"{window.column_step} keys; the full map follows"
        )
    return (
        f"each cell: {which} weight of {window.row_step} queries × "
        f"{window.column_step} keys; drag to zoom in for exact weights"
    )


def text_weights(
    recording: Recording, layer: int, head: int, token: int, direction: str, shown: tuple[int, int]
) -> Float[Tensor, " token"]:
    """Attention weights that shade the text for one token.

    Args:
        recording: a recording with attention.
        layer: the model's layer number.
        head: number of the query head.
        token: number of the token.
        direction: one of `DIRECTIONS`.
        shown: first and end token of the text shown.
    """
    first, end = shown
    if direction == DIRECTIONS[0]:
        return looks_at(recording, layer, head, token)[first:end]
    return looked_at_by(recording, layer, head, token, rows=shown)[first:end]


def text_span(recording: Recording, rows: tuple[int, int] | None) -> tuple[int, int]:
    """First and end token of the text shown: the window's rows, up to `MAX_TOKENS_SHOWN`."""
    first, end = rows or (0, len(recording))
    return first, min(end, first + MAX_TOKENS_SHOWN)


def head_note(scores: HeadProfile, layer: int, head: int) -> str:
    """The likely kind of one head and its scores, as HTML."""
    row = scores.layers.index(layer)
    kind, above = scores.kinds()[row][head]
    values = ", ".join(
        f"{title} {float(getattr(scores, name)[row, head]):.2f}"
        for name, title in SCORES.items()
        if name in ("first", "previous", "duplicate", "induction", "entropy")
    )
    return (
        f'<div class="q3-said"><b>Likely kind: {html.escape(kind)}</b> '
        f"({above:.0%} above uniform attention on this text). Scores: {values}</div>"
    )


def _axis(title: str, unit: str, recording: Recording, span: tuple[int, int], step: int) -> Axis:
    first, end = span
    spans = [
        Span(
            s.name, max(0, s.start - first) // step, -(-(min(end, s.end) - first) // step), s.colour
        )
        for s in token_spans(recording)
        if s.start < end and s.end > first
    ]
    return Axis(title, unit, tuple(recording.tokens[first:end:step]), tuple(spans), first, step)
