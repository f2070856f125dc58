"""Heatmaps with named rows and columns, shared by several figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from jaxtyping import Float
from torch import Tensor

from qwen3lab.arguments import checked
from qwen3lab.figures.scales import LINEAR, ColourScale, add_key, colouring, scale_for
from qwen3lab.figures.sizes import PLOT_WIDTH, cells, gap, label_room, plot_height, thinned
from qwen3lab.figures.theme import EMPTY_CELL_COLOUR, SEQUENTIAL, TEMPLATE

DIVERGING = "RdBu_r"


@dataclass(frozen=True)
class Side:
    """An axis of a map: title and names of its cells; the caller escapes untrusted text."""

    title: str
    names: Sequence[str]


@checked
def labelled_map(
    values: Float[Tensor, "row column"],
    rows: Side,
    columns: Side,
    *,
    title: str,
    subtitle: str,
    value: str,
    hover: str,
    high: float,
    low: float = 0.0,
    palette: str = SEQUENTIAL,
    about: Sequence[Sequence[Any]] | None = None,
    row_height: int = 24,
    adapts: bool = True,
) -> go.Figure:
    """A heatmap with named rows and columns, the first row at the top; NaN is grey.

    A map of many cells has no gaps between them, as many labels as fit, and the colour scale of
    `scale_for`.

    Args:
        values: one per cell.
        rows: the vertical side.
        columns: the horizontal side.
        title: of the figure.
        subtitle: below the title; none if empty.
        value: name and unit of the values, shown along the colour bar.
        hover: template of a cell's hover text.
        high: value at the high end of the colours.
        low: value at the low end.
        palette: one of plotly's scales.
        about: further values of each cell for the hover text, as `customdata`.
        row_height: in pixels, for a map of few rows.
        adapts: False for colours that are always linear from `low` to `high`.
    """
    height = plot_height(len(values), row_height)
    gaps = gap(len(values), values.shape[1], height)
    scale = ColourScale(LINEAR, low, max(high, 1e-6))
    if adapts:
        scale = scale_for(values.float(), low=scale.low, high=scale.high)
    figure = go.Figure(
        go.Heatmap(
            z=cells(values.detach().numpy()),
            x=list(columns.names),
            y=list(rows.names),
            customdata=about,
            hoverongaps=False,
            hovertemplate=f"{hover}<extra></extra>",
            xgap=gaps,
            ygap=gaps,
            **colouring(scale, palette, value),
        )
    )
    add_key(figure, scale, palette, value)
    figure.update_layout(
        template=TEMPLATE,
        height=max(280, 190 + height),
        plot_bgcolor=EMPTY_CELL_COLOUR,
        title=title,
        margin_t=84 if subtitle else 56,
    )
    if subtitle:
        figure.update_layout(title_subtitle_text=subtitle)
    named = {"type": "category", "showgrid": False, "zeroline": False}
    columns_shown = thinned(len(columns.names), PLOT_WIDTH, label_room(columns.names))
    figure.update_xaxes(named | columns_shown, title=columns.title)
    rows_shown = thinned(len(rows.names), height)
    return figure.update_yaxes(named | rows_shown, title=rows.title, autorange="reversed")
