"""Opens, changes and executes the notebooks of this repository."""

import os
import re
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CHINESE = NOTEBOOKS / "zh"
PLOT = "application/vnd.plotly.v1+json"
LOAD = 'qwen3lab.load("tiny-moe")'
NEXT_STEP = "next_step"
SETUP = """
import contextlib, os, tempfile
os.chdir(tempfile.mkdtemp())
_ = open("gsm8k.jsonl", "w").write('{"question": "1+1=?", "answer": "#### 2"}')
"""
"""Runs before the next steps: a folder for the files that they write, with one that they read."""

RECORDED = "Nursery(train_now=False)"
SHORT_TRAINING = "Nursery(tiny.growth.Growth(minutes=0.25, every=5))"
"""The recorded training in a notebook, and a short one in its place."""


def open_book(path: Path, *, model: str | None = None) -> nbformat.NotebookNode:
    """Read a notebook; with `model`, replace the model that its loading cell loads."""
    book = nbformat.read(path, as_version=4)
    if model is not None:
        loads = [cell for cell in book.cells if LOAD in cell.source]
        assert len(loads) == 1, f"{path.name} loads a model in {len(loads)} cells: expected one"
        loads[0].source = loads[0].source.replace(LOAD, f"qwen3lab.load({model!r})")
    return book


def execute(book: nbformat.NotebookNode, folder: Path = NOTEBOOKS) -> nbformat.NotebookNode:
    """Run all cells in a new kernel of a folder; raises a cell's error."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    if folder == CHINESE:  # whose name alone decides on the language
        environment = {name: text for name, text in environment.items() if name != "QWEN3LAB_LANG"}
        environment["LC_ALL"] = "C.UTF-8"
    client = NotebookClient(
        book,
        timeout=300,
        kernel_name="python3",
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment)
    return book


def next_steps(book: nbformat.NotebookNode) -> list[str]:
    """The pieces of code that a notebook recommends at its end."""
    (last,) = [cell for cell in book.cells if "## Where to go next" in cell.source]
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", last.source)]


def with_next_steps(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook, and a cell for each of its next steps, in a folder of their own."""
    for source in (SETUP, *filter(_is_code, next_steps(book))):
        if "to_circuitsvis" in source or "to_bertviz" in source:  # Packages of their own.
            source = f"with contextlib.suppress(ImportError):\n    {source}"
        cell = nbformat.v4.new_code_cell(source, metadata={NEXT_STEP: source != SETUP})
        book.cells.append(cell)
    return book


def _is_code(step: str) -> bool:
    """True for code of Python: neither a command nor the name of a notebook."""
    return not step.startswith("qwen3lab ") and not re.match(r"\d\d_", step)


def paired_script(path: Path) -> str:
    """The percent script that jupytext writes for a notebook."""
    return jupytext.writes(nbformat.read(path, as_version=4), fmt="py:percent")


def mime_types(book: nbformat.NotebookNode) -> list[str]:
    """MIME types of all outputs, in order; name of the stream for streams."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    found = []
    for output in outputs:
        found += output.data.keys() if "data" in output else [output.get("name", "error")]
    return found


def titles(book: nbformat.NotebookNode) -> list[str]:
    """Titles of the plotly figures of all outputs, in order; of a figure of panels, the first."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    layouts = [output.data[PLOT]["layout"] for output in outputs if PLOT in output.get("data", ())]
    return [(each.get("title") or each["annotations"][0])["text"] for each in layouts]


def write_book(path: Path, *cells: str) -> None:
    """Write a notebook with these code cells."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel
    )
    nbformat.write(book, path)
