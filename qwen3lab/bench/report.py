"""What a benchmark found, as a table to read and as numbers to keep."""

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import plotly.graph_objects as go

MEMORY = (
    "Memory is the peak above the weights, in a process of its own, in which large tensors are "
    "given back as soon as they are freed."
)
RATIO = (
    "Medians (least to most). Ratio: how many times as fast, or as small, qwen3lab is as the best "
    "of the others."
)

OURS = "qwen3lab"
PLAIN = "qwen3lab, plain"
"""Ours again, where another of our ways is what is measured."""


@dataclass(frozen=True)
class Measurement:
    """One case, measured on every side.

    Attributes:
        case: what was done.
        tokens: of the prompt, or generated where the unit is tokens/s; answers, where those are
            what was asked for.
        unit: "ms", "s", "tokens/s", "MB/s", "tokens" or "MiB".
        measured: by side, "qwen3lab" first, every measurement in the order of the runs; run `i`
            of one side was next to run `i` of the others. A side that was left out is not here.
    """

    case: str
    tokens: int
    unit: str
    measured: Mapping[str, tuple[float, ...]]

    @property
    def best_peer(self) -> str | None:
        """The side that did best beside ours, by medians; None if there was none."""
        peers = [side for side, values in self.measured.items() if values and side != OURS]
        return max(peers, key=self._merit, default=None)

    @property
    def ratio(self) -> float | None:
        """How many times as good ours is as the best of the others; None if unmeasured."""
        peer = self.best_peer
        if peer is None or not self.measured.get(OURS):
            return None
        return self._merit(OURS) / self._merit(peer) if self._merit(peer) else None

    def _merit(self, side: str) -> float:
        """Higher is better."""
        middle = statistics.median(self.measured[side])
        if self.unit.endswith("/s"):
            return middle
        return 1 / middle if middle else float("inf")


@dataclass(frozen=True)
class Report:
    """A benchmark's plan, machine, agreement and rows.

    Attributes:
        title: what was measured.
        machine: device, threads, dtype and versions.
        agreement: a sentence that says in how far all sides computed the same.
        gap: the number in that sentence.
        rows: the cases.
        sizes: what the rows' `tokens` count.
        notes: what else to know.
    """

    title: str
    machine: dict[str, str]
    agreement: str
    gap: float
    rows: list[Measurement]
    sizes: str = "tokens"
    notes: tuple[str, ...] = ()

    @property
    def sides(self) -> list[str]:
        """All that were measured, ours first."""
        return list(dict.fromkeys(side for row in self.rows for side in row.measured))

    def to_dict(self) -> dict[str, Any]:
        """Numbers for JSON."""
        rows = [asdict(row) | {"ratio": row.ratio, "best_peer": row.best_peer} for row in self.rows]
        about = {"title": self.title, "machine": self.machine, "agreement": self.agreement}
        return about | {"gap": self.gap, "notes": list(self.notes), "rows": rows}

    def figure(self) -> "go.Figure":
        """The ratios as a figure; plotly is needed for it, which the `lab` extra brings."""
        from qwen3lab.figures.ratios import ratios

        rows = [row for row in self.rows if row.ratio is not None]
        return ratios(
            [f"{row.case}, {row.tokens:,} {self.sizes}" for row in rows],
            [row.ratio or 0.0 for row in rows],
            [
                ", ".join(f"{s} {_cell(v, row.unit)}" for s, v in row.measured.items())
                for row in rows
            ],
            title=self.title,
        )

    def __str__(self) -> str:
        table = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column("case")
        for column in (self.sizes, *self.sides, "ratio"):
            table.add_column(column, justify="right")
        for row in self.rows:
            cells = (_cell(row.measured.get(side, ()), row.unit) for side in self.sides)
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            table.add_row(row.case, f"{row.tokens:,}", *cells, ratio)
        text = StringIO()
        Console(file=text, width=240, color_system=None).print(table)
        lines = [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]
        about = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        return "\n".join([f"{self.title}: {about}", self.agreement, *lines, RATIO, *self.notes])


def _cell(values: tuple[float, ...], unit: str) -> str:
    if not values:
        return "not measured"
    middle = f"{_short(statistics.median(values))} {unit}"
    if len(values) == 1:
        return middle
    return f"{middle} ({_short(min(values))} to {_short(max(values))})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
