"""Runs a notebook on a stand-in, in a kernel of limited memory, and measures what it took."""

import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests.notebooks.books import NOTEBOOKS, open_book

LIMIT = "import resource\nresource.setrlimit(resource.RLIMIT_DATA, ({0}, {0}))"
"""Memory that the process writes to; its address space is larger, and most of that is not used."""
MEASURE = """import json, os, time
from pathlib import Path
status = Path("/proc/self/status").read_text().splitlines()
(peak,) = (int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
print(json.dumps({"peak": peak, "cpu": time.process_time()}))"""
SECONDS_PER_CELL = 600


@dataclass(frozen=True)
class Failure:
    """A cell that raised: its source and the error."""

    source: str
    error: str


@dataclass(frozen=True)
class Run:
    """What a notebook took.

    Attributes:
        peak_bytes: the largest resident memory of the kernel.
        cpu_seconds: of the kernel.
        seconds: of all cells.
        slowest: the seconds and the source of the slowest cell.
        failures: the cells that raised.
        book: the notebook with its outputs.
    """

    peak_bytes: int
    cpu_seconds: float
    seconds: float
    slowest: tuple[float, str]
    failures: list[Failure]
    book: nbformat.NotebookNode

    def __str__(self) -> str:
        text = f"{self.seconds:.0f} s ({self.cpu_seconds:.0f} s of a core), "
        text += f"{self.peak_bytes / 2**20:,.0f} MiB; slowest cell {self.slowest[0]:.0f} s:\n"
        text += "\n".join(f"    {line}" for line in self.slowest[1].splitlines())
        for failure in self.failures:
            text += f"\n  FAILED {failure.error}\n"
            text += "\n".join(f"    {line}" for line in failure.source.splitlines())
        return text


def run_book(name: str, model: Path, *, max_bytes: int) -> Run:
    """Run all cells of a notebook on another model; later cells run also where one raises."""
    book = open_book(NOTEBOOKS / f"{name}.ipynb", model=str(model))
    limit = nbformat.v4.new_code_cell(LIMIT.format(max_bytes))
    measure = nbformat.v4.new_code_cell(MEASURE)
    book.cells = [limit, *book.cells, measure]
    NotebookClient(
        book,
        timeout=SECONDS_PER_CELL,
        kernel_name="python3",
        store_widget_state=False,
        allow_errors=True,
        resources={"metadata": {"path": str(NOTEBOOKS)}},
    ).execute(env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})
    cells = [cell for cell in book.cells if cell.cell_type == "code"][1:-1]
    measured = json.loads(measure.outputs[0].text)
    times = [(_seconds(cell), cell.source) for cell in cells]
    return Run(
        measured["peak"],
        measured["cpu"],
        sum(seconds for seconds, _ in times),
        max(times),
        [failure for cell in cells for failure in _failures(cell)],
        book,
    )


def _failures(cell: nbformat.NotebookNode) -> list[Failure]:
    return [
        Failure(cell.source, f"{output.ename}: {output.evalue}")
        for output in cell.outputs
        if output.output_type == "error"
    ]


def _seconds(cell: nbformat.NotebookNode) -> float:
    times = cell.metadata.execution
    ends = [
        datetime.fromisoformat(times[f"iopub.{key}"]) for key in ("execute_input", "status.idle")
    ]
    return (ends[1] - ends[0]).total_seconds()
