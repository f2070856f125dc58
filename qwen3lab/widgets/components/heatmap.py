"""A heatmap as plain data, and its encoding for the browser: one byte per cell."""

import functools
from dataclasses import dataclass
from math import ceil

import numpy as np
from jaxtyping import Float
from plotly.colors import get_colorscale, sample_colorscale, unlabel_rgb
from torch import Tensor

from qwen3lab.analysis.pooling import max_pool, steps
from qwen3lab.figures.scales import AUTOMATIC, BY_VALUES, LINEAR, ColourScale, ScaleChoice
from qwen3lab.figures.theme import SEQUENTIAL, visible
from qwen3lab.translation import later, tr

LEVELS = 255
"""Largest byte of a quantised value; 0 is reserved for cells without a value."""


@dataclass(frozen=True)
class Span:
    """A named range of an axis, drawn as a coloured strip: prompt, thinking, answer.

    Attributes:
        name: shown in the legend.
        start: first row or column.
        end: row or column after the last one.
        colour: as CSS.
    """

    name: str
    start: int
    end: int
    colour: str


@dataclass(frozen=True)
class Axis:
    """The rows or the columns of a map.

    Attributes:
        title: title of the axis.
        unit: name of one row or column, such as "token"; empty if the label is enough.
        labels: one text per row or column; an empty text for none.
        spans: coloured ranges.
        first: number of the first row or column, if the map is a window of a larger one.
        step: rows or columns that one value stands for, if the values are already pooled.
        ticks: positions and texts of the only ticks; without them, ticks are evenly spaced.
    """

    title: str
    unit: str
    labels: tuple[str, ...]
    spans: tuple[Span, ...] = ()
    first: int = 0
    step: int = 1
    ticks: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Heatmap:
    """A matrix of values with its axes and colours; NaN marks a cell without a value.

    Attributes:
        title: shown above the map, and read by screen readers.
        values: one exact value per cell.
        rows: the vertical axis, from the top.
        columns: the horizontal axis.
        value_title: name of the values, with their unit.
        low: value at the low end of the colour bar.
        high: value at the high end of the colour bar.
        nothing: meaning of a cell without a value.
        square: True for square cells.
        palette: name of a plotly colour scale.
        pooled: how values were pooled, "largest" or "mean", if one value stands for several.
        adapts: True for the colour scale of `scale_for`; False for a linear one.
    """

    title: str
    values: Float[Tensor, "row column"]
    rows: Axis
    columns: Axis
    value_title: str
    low: float = 0.0
    high: float = 1.0
    nothing: str = later("no value")
    square: bool = False
    palette: str = SEQUENTIAL
    pooled: str = "largest"
    adapts: bool = False


def quantise(values: Float[Tensor, "row column"], scale: ColourScale) -> bytes:
    """One byte per cell, row by row: 0 for NaN, 1 for the first colour, 255 for the last one."""
    places = scale.places(values.detach().double().numpy())
    levels = 1 + np.nan_to_num(places * (LEVELS - 1), nan=-1.0).round()
    return levels.astype(np.uint8).tobytes()


@functools.cache
def palette_bytes(name: str) -> bytes:
    """256 RGB colours of a plotly colour scale, three bytes each."""
    colours = sample_colorscale(get_colorscale(name), np.linspace(0, 1, 256).tolist())
    return bytes(round(channel) for colour in colours for channel in unlabel_rgb(colour))


def payload(heatmap: Heatmap, colours: ScaleChoice = BY_VALUES) -> dict[str, object]:
    """The message to the browser: the map, pooled to about a million cells at most.

    Args:
        heatmap: the map.
        colours: the chosen scale; of the automatic one, a map that does not adapt stays linear.
    """
    pooled = max_pool(heatmap.values)
    rows, columns = pooled.values.shape
    scale = ColourScale(LINEAR, heatmap.low, heatmap.high)
    if heatmap.adapts or colours.kind != AUTOMATIC:
        scale = colours.scale(pooled.values, low=heatmap.low, high=heatmap.high)
    return {
        "title": heatmap.title,
        "cells": quantise(pooled.values, scale),
        "shape": [rows, columns],
        "palette": palette_bytes(heatmap.palette),
        "rows": _axis(heatmap.rows, pooled.row_step),
        "columns": _axis(heatmap.columns, pooled.column_step),
        "valueTitle": heatmap.value_title,
        "scaleNote": scale.note(),
        "levels": scale.values(np.linspace(0, 1, LEVELS)).tolist(),
        "barTicks": [list(tick) for tick in scale.ticks()],
        "nothing": tr(heatmap.nothing) if bool(pooled.values.isnan().any()) else "",
        "square": heatmap.square,
    }


def block_value(heatmap: Heatmap, row: int, column: int) -> str:
    """The exact value of a cell of the pooled map, as text.

    Raises:
        ValueError: the cell is outside the map.
    """
    row_step, column_step = steps(heatmap.values)
    block = heatmap.values[row * row_step :, column * column_step :][:row_step, :column_step]
    if row < 0 or column < 0 or block.numel() == 0:
        n_rows, n_columns = heatmap.values.shape
        raise ValueError(
            tr(
                "cell ({row}, {column}) does not exist: the map has {n_rows} rows and "
                "{n_columns} columns",
                row=row,
                column=column,
                n_rows=ceil(n_rows / row_step),
                n_columns=ceil(n_columns / column_step),
            )
        )
    if block.isnan().all():
        return tr(heatmap.nothing)
    value = float(block[~block.isnan()].max())
    n_rows, n_columns = len(block) * heatmap.rows.step, block.shape[1] * heatmap.columns.step
    note = "" if n_rows == n_columns == 1 else _pooled(heatmap.pooled, n_rows, n_columns)
    return f"{heatmap.value_title} {value:.4f}{note}"


def _pooled(how: str, n_rows: int, n_columns: int) -> str:
    if how == "mean":
        return tr(" (mean of {rows} × {columns})", rows=n_rows, columns=n_columns)
    return tr(" (largest of {rows} × {columns})", rows=n_rows, columns=n_columns)


def _axis(axis: Axis, step: int) -> dict[str, object]:
    return {
        "title": axis.title,
        "unit": axis.unit,
        "step": step * axis.step,
        "first": axis.first,
        "ticks": [[place / step, text] for place, text in axis.ticks],
        "labels": [visible(label) if label else "" for label in axis.labels[::step]],
        "spans": [
            {"name": tr(s.name), "start": s.start / step, "end": s.end / step, "colour": s.colour}
            for s in axis.spans
        ],
    }
