"""Data of the attention view's panes, computed from a recording. Draws nothing."""

from collections.abc import Sequence
from math import ceil

from qwen3lab.analysis.attention.profile import HeadProfile
from qwen3lab.analysis.map_windows import (
    THUMB,
    WALL_GAP,
    MapWindow,
    attention_wall,
)
from qwen3lab.figures.heads import SCORES, top_of
from qwen3lab.figures.scales import MIN_CELLS
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr
from qwen3lab.widgets.components.heatmap import Axis, Heatmap, Span
from qwen3lab.widgets.explorers.chat_compute import MASKED, token_spans

MAX_TOKENS_SHOWN = 2_000
"""Largest number of tokens in the text view at a time."""


def score_heatmap(scores: HeadProfile, score: str) -> Heatmap:
    """One cell per head, coloured by one of `SCORES`: layers downwards, heads to the right."""
    values = getattr(scores, score).float()
    labels = tuple("" if row == layer else str(layer) for row, layer in enumerate(scores.layers))
    return Heatmap(
        title=tr("Attention of each head: {score}", score=tr(SCORES[score])),
        values=values,
        rows=Axis(tr("layer"), tr("layer"), labels),
        columns=Axis(tr("head"), tr("head"), ("",) * values.shape[1]),
        value_title=tr(SCORES[score]),
        high=top_of(scores, score),
        nothing=tr("not measured"),
    )


def wall_heatmap(
    recording: Recording, layers: Sequence[int] | None = None, per_row: int | None = None
) -> Heatmap:
    """Thumbnails in one map; `head_at` gives the head of a cell.

    Args:
        recording: with attention.
        layers: to show; all if None.
        per_row: thumbnails in a row, for one layer; all heads of a layer if None.
    """
    layers, n_heads = layers or recording.attention.layers, recording.config.n_heads
    pitch = _side(recording)
    values = attention_wall(recording, layers, per_row=per_row)
    if per_row is None:
        title = tr("Attention of all heads")
        rows = _wall_axis(tr("layer"), layers, values.shape[0], pitch)
        columns = _wall_axis(tr("head"), range(n_heads), values.shape[1], pitch)
    else:
        title = tr("Attention of the heads of layer {layer}", layer=layers[0])
        firsts = range(0, n_heads, per_row)
        rows = _wall_axis(
            tr("head"), firsts, values.shape[0], pitch, title=tr("first head of the row")
        )
        columns = _wall_axis(
            tr("plus"), range(per_row), values.shape[1], pitch, title=tr("heads after it")
        )
    return Heatmap(
        title=title,
        values=values,
        rows=rows,
        columns=columns,
        value_title=tr("largest weight"),
        nothing=MASKED,
        square=per_row is not None,
        adapts=len(recording) ** 2 >= 2 * MIN_CELLS,
    )


def _wall_axis(name: str, numbers: Sequence[int], size: int, side: int, *, title: str = "") -> Axis:
    """An axis of thumbnails: each cell has the label of its head or layer; ticks are centred."""
    labels = tuple(f"{name} {numbers[place // side]}" for place in range(size))
    middle = (side - WALL_GAP) // 2
    ticks = tuple((place * side + middle, str(number)) for place, number in enumerate(numbers))
    return Axis(title or name, "", labels, ticks=ticks)


def head_at(
    recording: Recording,
    row: int,
    column: int,
    layers: Sequence[int] | None = None,
    per_row: int | None = None,
) -> tuple[int, int]:
    """The layer and head of a cell of `wall_heatmap`."""
    side, layers = _side(recording), layers or recording.attention.layers
    if per_row is not None:
        return layers[0], row // side * per_row + column // side
    return layers[row // side], column // side


def frame_on_wall(
    recording: Recording,
    layer: int,
    head: int,
    *,
    layers: Sequence[int] | None = None,
    per_row: int | None = None,
) -> list[int]:
    """First row, first column, last row and last column of a head's thumbnail."""
    side, layers = _side(recording), layers or recording.attention.layers
    place = (layers.index(layer), head) if per_row is None else divmod(head, per_row)
    top, left = place[0] * side, place[1] * side
    return [top, left, top + side - WALL_GAP - 1, left + side - WALL_GAP - 1]


def _side(recording: Recording) -> int:
    """Number of cells from one thumbnail to the next."""
    n = len(recording)
    return ceil(n / ceil(n / THUMB)) + WALL_GAP


def map_heatmap(recording: Recording, layer: int, head: int, window: MapWindow) -> Heatmap:
    """A window of one head's attention map; exact unless the window had to be pooled."""
    all_tokens = (0, len(recording))
    part = "" if window.rows == window.columns == all_tokens else tr(" (part)")
    return Heatmap(
        title=tr(
            "Attention of layer {layer}, head {head}{part}", layer=layer, head=head, part=part
        ),
        values=window.values,
        rows=_axis(tr("query token"), tr("query"), recording, window.rows, window.row_step),
        columns=_axis(tr("key token"), tr("key"), recording, window.columns, window.column_step),
        value_title=tr("attention weight"),
        nothing=MASKED,
        square=window.rows == window.columns,
        adapts=True,
        pooled="largest" if window.how == "max" else "mean",
    )


def pooling_note(window: MapWindow) -> str:
    """How the cells of a map were pooled, as one sentence; empty if each is a single weight."""
    if window.is_exact:
        return ""
    which = tr("largest") if window.how == "max" else tr("mean")
    if window.sampled:
        return tr(
            "preview: one query in {row_step}, {which} weight of {column_step} keys; "
            "the full map follows",
            row_step=window.row_step,
            which=which,
            column_step=window.column_step,
        )
    return tr(
        "each cell: {which} weight of {row_step} queries × {column_step} keys; "
        "drag to zoom in for exact weights",
        which=which,
        row_step=window.row_step,
        column_step=window.column_step,
    )


def text_page(recording: Recording, token: int) -> tuple[int, int]:
    """First and end token of the text shown: the `MAX_TOKENS_SHOWN` that a token is among."""
    first = max(0, token) // MAX_TOKENS_SHOWN * MAX_TOKENS_SHOWN
    return first, min(len(recording), first + MAX_TOKENS_SHOWN)


def head_note(scores: HeadProfile, layer: int, head: int) -> str:
    """The likely kind of one head and its scores, in words."""
    row = scores.layers.index(layer)
    kind, above = scores.kinds()[row][head]
    values = tr(", ").join(
        f"{tr(title)} {float(getattr(scores, name)[row, head]):.2f}"
        for name, title in SCORES.items()
        if name in ("first", "previous", "duplicate", "induction", "entropy")
    )
    return tr(
        "{likely} ({above:.0%} above uniform attention on this text). Scores: {values}",
        likely=tr("Likely kind: {kind}", kind=tr(kind)),
        above=above,
        values=values,
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
