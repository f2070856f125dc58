"""The measured values as a table, with the machine that they are of."""

import os
import platform
from importlib.metadata import version
from io import StringIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.notebooks.measuring.cases import Row

PACKAGES = ("torch", "jupyterlab", "ipywidgets", "anywidget", "playwright")
PROCESSORS = ("kernel", "server", "page", "script", "style", "layout")
COLUMNS = ("case", "step", "median", "range", "goal", "", "msgs", "KiB", *PROCESSORS)


def machine() -> dict[str, str]:
    """What the values depend on: processors, their load, versions."""
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    found = {"processors": str(os.cpu_count()), "load (1, 5, 15 minutes)": load}
    return found | {"python": platform.python_version()} | {p: version(p) for p in PACKAGES}


def table(rows: list[Row], of: dict[str, str]) -> str:
    """The rows as a text table."""
    found = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    for column in COLUMNS:
        found.add_column(column, justify="left" if column in ("case", "step") else "right")
    for row in rows:
        found.add_row(*_cells(row))
    text = StringIO()
    Console(file=text, width=200, color_system=None).print(found)
    lines = [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]
    header = ", ".join(f"{name} {value}" for name, value in of.items())
    return "\n".join([header, *lines])


def _cells(row: Row) -> list[str]:
    least, most = row.least, row.most
    span = "" if least is None or most is None else f"{_short(least)} to {_short(most)}"
    goal = row.goal
    met = "" if goal is None else "yes" if row.value <= goal else "NO"
    return [
        row.case,
        row.step,
        f"{_short(row.value)} {row.unit}",
        span,
        "" if goal is None else f"{goal:g} {row.unit}",
        met,
        _short(row.messages),
        _short(row.kib),
        *(_short(row.processors.get(f"{name}_ms")) for name in PROCESSORS),
    ]


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
