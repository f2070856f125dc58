"""The results of a benchmark: as a text table, as a dict for JSON, as a figure."""

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

MEMORY_NOTE = (
    "Memory: peak above the weights, after a prompt of an eighth of the length, measured in a "
    "separate process that returns freed large tensors to the system at once."
)
RATIO_NOTE = (
    "Values: median (minimum to maximum). Ratio: qwen3lab's speed divided by that of the fastest "
    "other column; for times and memory, the smallest other column divided by qwen3lab. Above 1, "
    "qwen3lab is better."
)

OURS = "qwen3lab"
PLAIN = "qwen3lab, plain"
"""The baseline in suites that measure an option of qwen3lab: qwen3lab without that option."""


@dataclass(frozen=True)
class Measurement:
    """The measurements of one case on all sides; a side is one of the compared implementations.

    Attributes:
        case: the measured operation.
        tokens: length of the prompt; for "tokens/s" the number of generated tokens; in reports
            with other `sizes`, that size.
        unit: "ms", "s", "tokens/s", "MB/s", "replies/min", "%", "tokens" or "MiB".
        measured: the values of each side, "qwen3lab" first, in the order of the runs. Runs with
            the same index were measured one after another. Sides that were not measured are
            missing or have no values.
    """

    case: str
    tokens: int
    unit: str
    measured: Mapping[str, tuple[float, ...]]

    @property
    def best_peer(self) -> str | None:
        """The side other than qwen3lab with the best median; None if there is none."""
        peers = [side for side, values in self.measured.items() if values and side != OURS]
        return max(peers, key=self._score, default=None)

    @property
    def ratio(self) -> float | None:
        """qwen3lab's advantage over the best peer, above 1 if better; None if not measured."""
        peer = self.best_peer
        if peer is None or not self.measured.get(OURS):
            return None
        return self._score(OURS) / self._score(peer) if self._score(peer) else None

    def _score(self, side: str) -> float:
        """The median of a rate or share, or the inverse of another median: higher is better."""
        median = statistics.median(self.measured[side])
        if "/" in self.unit or self.unit == "%":
            return median
        return 1 / median if median else float("inf")


@dataclass(frozen=True)
class Report:
    """The result of one suite.

    Attributes:
        title: the measured operation and model.
        machine: device, threads, dtype and versions.
        agreement: a sentence on how well the results of all sides agree.
        gap: the difference in that sentence.
        rows: the measurements.
        sizes: the quantity that the rows' `tokens` count.
        notes: further sentences on how to read the table.
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
        """Names of all measured sides, "qwen3lab" first."""
        return list(dict.fromkeys(side for row in self.rows for side in row.measured))

    def to_dict(self) -> dict[str, Any]:
        """The report as a dict for JSON."""
        rows = [asdict(row) | {"ratio": row.ratio, "best_peer": row.best_peer} for row in self.rows]
        header = {"title": self.title, "machine": self.machine, "agreement": self.agreement}
        return header | {"gap": self.gap, "notes": list(self.notes), "rows": rows}

    def figure(self) -> "go.Figure":
        """A bar chart of the ratios; needs plotly, which the `lab` extra installs."""
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
        Console(file=text, width=240, color_system=None, force_jupyter=False).print(table)
        lines = [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        header = [f"{self.title}: {machine}", self.agreement]
        return "\n".join([*header, *lines, RATIO_NOTE, *self.notes])


def _cell(values: tuple[float, ...], unit: str) -> str:
    if not values:
        return "not measured"
    median = f"{_short(statistics.median(values))} {unit}"
    if len(values) == 1:
        return median
    return f"{median} ({_short(min(values))} to {_short(max(values))})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
