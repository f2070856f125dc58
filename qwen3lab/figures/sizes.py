"""Pixels of a map: its height, the gaps of its cells, and how many labels fit."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np

PLOT_WIDTH = 600
"""Width of a map on a narrow page, without labels and colour bar, in pixels."""

MAX_PLOT_HEIGHT, MANY_ROWS_HEIGHT = 810, 560
MANY_ROWS = 40
"""Rows from which a row has few pixels, so that a map fits a screen."""

MIN_GAPPED_CELL = 6
"""Minimum size of a cell, in pixels, for a gap of one pixel to the next."""

LABEL_HEIGHT, LETTER_WIDTH = 15, 8
"""Pixels that a label takes across its text, and a letter along it."""

MAX_EXACT_CELLS, MAX_FINE_CELLS = 4096, 100_000
"""Most cells of a map whose values are written exactly, and with four digits; else with three."""


def plot_height(n_rows: int, row_height: int) -> int:
    """Height of a map without title and labels: full rows if they are few."""
    if n_rows <= MANY_ROWS:
        return min(MAX_PLOT_HEIGHT, row_height * n_rows)
    return max(MANY_ROWS_HEIGHT, min(MAX_PLOT_HEIGHT, 6 * n_rows))


def gap(n_rows: int, n_columns: int, height: int, width: int = PLOT_WIDTH) -> int:
    """Pixels between two cells; 0 if cells are so small that gaps would hide them."""
    size = min(height / max(1, n_rows), width / max(1, n_columns))
    return int(size >= MIN_GAPPED_CELL)


def thinned(n: int, pixels: int, room: int = LABEL_HEIGHT) -> dict[str, Any]:
    """Axis attribute for at most as many labels as fit, at every 1, 2, 5, 10 ... cells.

    A number of ticks, not a list: after a zoom, plotly writes the labels between them, too.
    """
    step = label_step(n, pixels, room)
    return {} if step == 1 else {"nticks": ceil(n / step)}


def label_step(n: int, pixels: int, room: int = LABEL_HEIGHT) -> int:
    """Cells from one label to the next: the first of 1, 2, 5, 10 ... that keeps them apart."""
    scale = 1
    while True:
        for factor in (1, 2, 5):
            if factor * scale * pixels >= room * n:
                return factor * scale
        scale *= 10


def label_room(names: Sequence[str]) -> int:
    """Pixels that a label below a map takes: upright numbers their width, turned text its height.

    Plotly turns labels that are wider than their cells.
    """
    longest = max((len(name) for name in names), default=1)
    return LETTER_WIDTH * (longest + 1) if longest <= 3 else LABEL_HEIGHT


def cells(values: np.ndarray) -> list[list[float | None]]:
    """Values as nested lists: None for NaN; fewer digits in a large map, to bound its JSON."""
    if values.size <= MAX_EXACT_CELLS:
        return [[None if cell != cell else cell for cell in row] for row in values.tolist()]
    digits = 4 if values.size <= MAX_FINE_CELLS else 3
    return [
        [None if cell != cell else float(f"{cell:.{digits}g}") for cell in row]
        for row in values.tolist()
    ]
