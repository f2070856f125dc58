"""All heads of a model at once: thumbnails of their maps, or one cell a head if there are many."""

from collections.abc import Sequence
from math import ceil, isqrt
from typing import Any

import plotly.graph_objects as go

from qwen3lab.analysis.attention.profile import HeadProfile, head_profile
from qwen3lab.analysis.map_windows import THUMB, WALL_GAP, attention_wall as wall_values
from qwen3lab.arguments import checked
from qwen3lab.figures.heads import SCORES, head_map, top_of
from qwen3lab.figures.scales import MIN_CELLS, ColourScale, add_key, colouring, scale_for
from qwen3lab.figures.sizes import cells
from qwen3lab.figures.theme import (
    EMPTY_CELL_COLOUR,
    SEQUENTIAL,
    TEMPLATE,
    empty_figure,
    escape,
    traces,
)
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import later, tr

MAX_PER_ROW, MAX_ROWS = 16, 24
"""Maximum numbers of thumbnails in a row and of rows, each thumbnail at least `MIN_THUMB` wide."""

MIN_THUMB = 48
"""Minimum width and height of a thumbnail, in pixels."""

MAX_WALL_CELLS = 200_000
"""Maximum number of cells of all thumbnails, which bounds the figure's JSON."""

OPENS = later("thumbnails of a layer: attention_wall(recording, layers=[{layer}])")


@checked
def attention_wall(
    recording: Recording,
    *,
    layers: Sequence[int] | None = None,
    score: str = "previous",
    scores: HeadProfile | None = None,
) -> go.Figure:
    """Thumbnails of all heads: rows are layers, columns heads.

    A model with too many heads for legible thumbnails gets a map with one cell per head, and a
    menu of scores; `layers` then opens the thumbnails of a few layers.

    Args:
        recording: with attention.
        layers: to show; all recorded layers if None.
        score: the first score of the map with one cell per head, such as "induction".
        scores: the profile of these heads, if it was measured before.

    Raises:
        RecordingError: no such layer, or attention was not recorded.
        ValueError: no such score; or fewer than two tokens in a model with many heads.
    """
    if score not in SCORES:
        raise ValueError(
            tr(
                "there is no score {score!r}: choose from {scores}",
                score=score,
                scores=", ".join(SCORES),
            )
        )
    shown = list(recording.attention.layers if layers is None else layers)
    if not shown:
        return empty_figure(tr("There is no attention to show: it was not recorded."))
    per_row = min(recording.config.n_heads, MAX_PER_ROW)
    if len(shown) * ceil(recording.config.n_heads / per_row) > MAX_ROWS:
        found = head_profile(recording) if scores is None else scores
        return _overview(found, score, recording.model_name, set(shown))
    return _thumbnails(recording, shown, per_row)


def _thumbnails(recording: Recording, layers: Sequence[int], per_row: int) -> go.Figure:
    n_heads, n = recording.config.n_heads, len(recording)
    chunks = [range(first, min(first + per_row, n_heads)) for first in range(0, n_heads, per_row)]
    n_rows = len(layers) * len(chunks)
    side = min(THUMB, isqrt(MAX_WALL_CELLS // (n_rows * per_row)) - WALL_GAP)
    wall = wall_values(recording, layers, side=side, per_row=per_row)
    pitch = (wall.shape[1] + WALL_GAP) // per_row
    centre = (pitch - WALL_GAP) / 2 - 0.5
    scale = scale_for(wall) if n * n >= 2 * MIN_CELLS else ColourScale("linear", 0.0, 1.0)
    figure = go.Figure(
        go.Heatmap(
            z=cells(wall.numpy()),
            hoverinfo="skip",
            **colouring(scale, SEQUENTIAL, tr("largest weight")),
        )
    )
    add_key(figure, scale, SEQUENTIAL, tr("largest weight"))
    figure.update_layout(
        template=TEMPLATE,
        title=tr("Thumbnails of all heads · {model_name}", model_name=escape(recording.model_name)),
        title_subtitle_text=tr(
            "rows of a thumbnail are queries, columns are keys; grey: later keys"
        ),
        height=int(max(320, min(1400, 150 + 52 * n_rows))),
        width=240 + 52 * per_row if per_row * (MIN_THUMB + 2) > 450 else None,
        plot_bgcolor=EMPTY_CELL_COLOUR,
        margin_t=84,
    )
    plain = {"showgrid": False, "zeroline": False, "tickmode": "array"}
    is_wrapped = len(chunks) > 1
    figure.update_xaxes(
        plain,
        title=tr("head, from the first of the row") if is_wrapped else tr("head"),
        tickvals=[centre + pitch * head for head in range(per_row)],
        ticktext=[f"+{head}" if is_wrapped else str(head) for head in range(per_row)],
    )
    names = [
        tr("{layer}, from head {head}", layer=layer, head=heads[0]) if is_wrapped else str(layer)
        for layer in layers
        for heads in chunks
    ]
    return figure.update_yaxes(
        plain,
        title=tr("layer"),
        autorange="reversed",
        tickvals=[centre + pitch * row for row in range(n_rows)],
        ticktext=names,
    )


def _overview(scores: HeadProfile, score: str, model_name: str, shown: set[int]) -> go.Figure:
    """One cell a head, with a menu of all scores."""
    rows = [row for row, layer in enumerate(scores.layers) if layer in shown]
    figure = head_map(scores, score)
    kept = [scores.layers[row] for row in rows]
    if len(kept) < len(scores.layers):
        traces(figure)[0].update(
            z=[traces(figure)[0].z[row] for row in rows],
            y=[str(layer) for layer in kept],
            customdata=[traces(figure)[0].customdata[row] for row in rows],
        )
    buttons = [_button(scores, name, rows, model_name) for name in SCORES]
    figure.update_layout(
        title_text=_title(score, model_name),
        title_subtitle_text=tr(OPENS, layer=kept[0] if kept else 0),
        margin_t=96,
        updatemenus=[
            {
                "buttons": buttons,
                "active": list(SCORES).index(score),
                "x": 1,
                "xanchor": "right",
                "y": 1.01,
                "yanchor": "bottom",
                "pad": {"b": 4},
                "bgcolor": "white",
                "font": {"size": 12},
            }
        ],
    )
    return figure


def _button(scores: HeadProfile, name: str, rows: Sequence[int], model_name: str) -> dict[str, Any]:
    values = getattr(scores, name)[list(rows)].double()
    trace = {
        "z": [cells(values.numpy())],
        "zmax": top_of(scores, name),
        "colorbar.title.text": tr(SCORES[name]),
    }
    args = [trace, {"title.text": _title(name, model_name)}]
    return {"label": tr(name.replace("_", " ")), "method": "update", "args": args}


def _title(score: str, model_name: str) -> str:
    return tr(
        "Attention of each head: {score} · {model_name}",
        score=tr(SCORES[score]),
        model_name=escape(model_name),
    )
