"""Heatmaps with named rows and columns, shared by several figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from jaxtyping import Float
from torch import Tensor

from qwen3lab.arguments import checked
from qwen3lab.figures.theme import EMPTY_CELL_COLOUR, SEQUENTIAL, TEMPLATE, colour_bar

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
) -> go.Figure:
    """A heatmap with named rows and columns, the first row at the top; NaN is grey.

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
        row_height: in pixels.
    """
    figure = go.Figure(
        go.Heatmap(
            z=[[None if cell != cell else cell for cell in row] for row in values.tolist()],
            x=list(columns.names),
            y=list(rows.names),
            customdata=about,
            zmin=low,
            zmax=max(high, 1e-6),
            colorscale=palette,
            colorbar=colour_bar(value),
            hoverongaps=False,
            hovertemplate=f"{hover}<extra></extra>",
            xgap=1,
            ygap=1,
        )
    )
    figure.update_layout(
        template=TEMPLATE,
        height=max(280, min(1000, 190 + row_height * len(values))),
        plot_bgcolor=EMPTY_CELL_COLOUR,
        title=title,
        margin_t=84 if subtitle else 56,
    )
    if subtitle:
        figure.update_layout(title_subtitle_text=subtitle)
    figure.update_xaxes(title=columns.title, type="category", showgrid=False)
    return figure.update_yaxes(
        title=rows.title, type="category", autorange="reversed", showgrid=False
    )
