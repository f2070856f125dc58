"""From a recording to what the attention explorer's panes show. Pure: nothing here draws."""

import html
from collections.abc import Sequence
from math import ceil

import torch
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
from qwen3lab.widgets.explorers.chat_compute import token_spans

MOST_WORDS = 2_000
"""Tokens of the text that are shown at once."""


def wall_heatmap(recording: Recording) -> Heatmap:
    """Thumbnails of all heads; a cell belongs to the head that `head_at` names."""
    layers, heads = recording.attention.layers, range(recording.config.n_heads)
    values, side = attention_wall(recording, layers), _side(recording)
    return Heatmap(
        title="Every head in small",
        values=values,
        rows=_wall_axis("layer", layers, values.shape[0], side),
        columns=_wall_axis("head", heads, values.shape[1], side),
        value_title="largest weight",
        nothing="later than the query",
    )


def _wall_axis(name: str, numbers: Sequence[int], size: int, side: int) -> Axis:
    """An axis of thumbnails: every cell is named by its head or layer, ticked in the middle."""
    labels = tuple(f"{name} {numbers[place // side]}" for place in range(size))
    middle = (side - WALL_GAP) // 2
    ticks = tuple((place * side + middle, str(number)) for place, number in enumerate(numbers))
    return Axis(name, "", labels, ticks=ticks)


def head_at(recording: Recording, row: int, column: int) -> tuple[int, int]:
    """The layer and head of a cell of the wall."""
    side = _side(recording)
    return recording.attention.layers[row // side], column // side


def frame_on_wall(recording: Recording, layer: int, head: int) -> list[int]:
    """First row and column, last row and column of a head's thumbnail."""
    side = _side(recording)
    top, left = recording.attention.layers.index(layer) * side, head * side
    return [top, left, top + side - WALL_GAP - 1, left + side - WALL_GAP - 1]


def _side(recording: Recording) -> int:
    """Cells from one thumbnail to the next."""
    n = len(recording)
    return ceil(n / ceil(n / THUMB)) + WALL_GAP


def map_heatmap(recording: Recording, layer: int, head: int, found: MapWindow) -> Heatmap:
    """A window of one head's map, exact where there is room for every cell."""
    whole = (0, len(recording))
    part = "" if found.rows == found.columns == whole else ", a part"
    return Heatmap(
        title=f"Attention of layer {layer}, head {head}{part}",
        values=found.values,
        rows=_axis("query (looking)", "query", recording, found.rows, found.row_step),
        columns=_axis("key (looked at)", "key", recording, found.columns, found.column_step),
        value_title="attention weight",
        nothing="later than the query",
        square=found.rows == found.columns,
        pooled="largest" if found.how == "max" else "mean",
    )


def pooling_note(found: MapWindow) -> str:
    """What a cell of the map stands for; nothing where it is a single weight."""
    if found.is_exact:
        return ""
    which = "largest" if found.how == "max" else "mean"
    if found.sampled:
        return (
            f"a first look: the {which} weight of {found.column_step} keys for one query "
            f"in {found.row_step}; all queries follow in a moment"
        )
    return (
        f"each cell is the {which} weight of {found.row_step} queries and "
        f"{found.column_step} keys; drag over a part to see it exactly"
    )


def text_weights(
    recording: Recording, layer: int, head: int, token: int, direction: str, shown: tuple[int, int]
) -> Float[Tensor, " token"]:
    """How strongly each of the tokens that are shown is shaded for one of the text."""
    first, end = shown
    if direction == DIRECTIONS[0]:
        return looks_at(recording, layer, head, token)[first:end]
    return looked_at_by(recording, layer, head, token, rows=shown)[first:end]


def text_span(recording: Recording, rows: tuple[int, int] | None) -> tuple[int, int]:
    """The tokens of the text that are shown: those of the window, up to `MOST_WORDS`."""
    first, end = rows or (0, len(recording))
    return first, min(end, first + MOST_WORDS)


def head_note(scores: HeadProfile, layer: int, head: int) -> str:
    """What one head does, in a sentence, as HTML."""
    row = scores.layers.index(layer)
    kind, above = scores.kinds()[row][head]
    said = ", ".join(
        f"{title} {float(getattr(scores, name)[row, head]):.2f}"
        for name, title in SCORES.items()
        if name in ("first", "previous", "duplicate", "induction", "entropy")
    )
    return (
        f'<div class="q3-said"><b>Likely a {html.escape(kind)} head</b> '
        f"({above:.0%} above uniform attention, on this text): {said}</div>"
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


def quantised(values: Float[Tensor, " token"]) -> bytes:
    """Weights as bytes: 0 for none, 255 for all of a row's attention."""
    return (values.clamp(0, 1) * 255).round().to(torch.uint8).numpy().tobytes()
