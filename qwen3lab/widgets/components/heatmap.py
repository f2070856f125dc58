"""What a map on a canvas shows, as plain data; and its values packed into bytes."""

from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from jaxtyping import Float
from plotly.colors import get_colorscale, sample_colorscale, unlabel_rgb
from torch import Tensor

from qwen3lab.analysis.pooling import max_pool, steps
from qwen3lab.figures.theme import SEQUENTIAL, visible

LEVELS = 255
"""Steps of a quantised value; 0 is kept for a cell that holds nothing."""


@dataclass(frozen=True)
class Span:
    """A named stretch of an axis, drawn as a coloured strip: thinking, answer ..."""

    name: str
    start: int
    end: int
    colour: str


@dataclass(frozen=True)
class Axis:
    """One side of a map: what its steps are called, and the text of each.

    Attributes:
        title: of the axis.
        unit: what one step is called; where it is empty, its label says all.
        labels: the text of every step, or nothing.
        spans: coloured stretches, in steps.
        first: the number of the first step, where the map is a part of a larger one.
        step: steps that each value stands for, where the map has been pooled already.
        ticks: places that alone have a tick, and its text; none for ticks at even distances.
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
    """A map of values; NaN marks a cell that holds nothing.

    Attributes:
        title: said to screen readers, and shown above the map.
        values: one per cell, exact.
        rows: the vertical axis, from the top.
        columns: the horizontal axis.
        value_title: what a value is, with its unit.
        low: value at the low end of the colour bar.
        high: value at the high end.
        nothing: what a cell without a value means.
        square: cells as high as they are wide.
        palette: one of plotly's scales.
        pooled: what a value is of the cells that it stands for, where it stands for several.
    """

    title: str
    values: Float[Tensor, "row column"]
    rows: Axis
    columns: Axis
    value_title: str
    low: float = 0.0
    high: float = 1.0
    nothing: str = "no value"
    square: bool = False
    palette: str = SEQUENTIAL
    pooled: str = "largest"


def quantise(values: Float[Tensor, "row column"], low: float, high: float) -> bytes:
    """One byte per cell, row by row: 0 for NaN, else 1 (at most `low`) to 255 (at least `high`)."""
    scale = (LEVELS - 1) / (high - low) if high > low else 0.0
    levels = 1 + ((values.double() - low) * scale).clamp(0, LEVELS - 1).round()
    return levels.nan_to_num(nan=0.0).to(torch.uint8).numpy().tobytes()


def palette_bytes(name: str) -> bytes:
    """256 colours, three bytes each, along one of plotly's sequential scales."""
    colours = sample_colorscale(get_colorscale(name), np.linspace(0, 1, 256).tolist())
    return bytes(round(part) for colour in colours for part in unlabel_rgb(colour))


def payload(heatmap: Heatmap) -> dict[str, object]:
    """The map as it travels to the browser: at most about a million cells, one byte each."""
    pooled = max_pool(heatmap.values)
    rows, columns = pooled.values.shape
    return {
        "title": heatmap.title,
        "cells": quantise(pooled.values, heatmap.low, heatmap.high),
        "shape": [rows, columns],
        "palette": palette_bytes(heatmap.palette),
        "rows": _axis(heatmap.rows, pooled.row_step),
        "columns": _axis(heatmap.columns, pooled.column_step),
        "valueTitle": heatmap.value_title,
        "low": heatmap.low,
        "high": heatmap.high,
        "nothing": heatmap.nothing,
        "square": heatmap.square,
    }


def block_value(heatmap: Heatmap, row: int, column: int) -> str:
    """The exact value behind a cell of the map as shown, as text.

    Raises:
        ValueError: the cell is outside the map.
    """
    row_step, column_step = steps(heatmap.values)
    block = heatmap.values[row * row_step :, column * column_step :][:row_step, :column_step]
    if row < 0 or column < 0 or block.numel() == 0:
        n_rows, n_columns = heatmap.values.shape
        raise ValueError(
            f"cell ({row}, {column}) does not exist: the map has {ceil(n_rows / row_step)} rows "
            f"and {ceil(n_columns / column_step)} columns"
        )
    if block.isnan().all():
        return heatmap.nothing
    value = float(block[~block.isnan()].max())
    n_rows, n_columns = len(block) * heatmap.rows.step, block.shape[1] * heatmap.columns.step
    note = "" if n_rows == n_columns == 1 else f" ({heatmap.pooled} of {n_rows} × {n_columns})"
    return f"{heatmap.value_title} {value:.4f}{note}"


def _axis(axis: Axis, step: int) -> dict[str, object]:
    return {
        "title": axis.title,
        "unit": axis.unit,
        "step": step * axis.step,
        "first": axis.first,
        "ticks": [[place / step, text] for place, text in axis.ticks],
        "labels": [visible(label) if label else "" for label in axis.labels[::step]],
        "spans": [
            {"name": s.name, "start": s.start / step, "end": s.end / step, "colour": s.colour}
            for s in axis.spans
        ],
    }
