"""Opens, changes and executes the notebooks of this repository."""

import os
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CHINESE = NOTEBOOKS / "zh"
LOAD = 'qwen3lab.load("tiny-moe")'
TRAINING = ("Growth(minutes=3)", "Growth(minutes=0.25, every=5)")
"""The training in a notebook, and the shorter training that tests run."""


def open_book(path: Path, *, model: str | None = None) -> nbformat.NotebookNode:
    """Read a notebook; with `model`, replace the model that its loading cell loads."""
    book = nbformat.read(path, as_version=4)
    if model is not None:
        loads = [cell for cell in book.cells if LOAD in cell.source]
        assert len(loads) == 1, f"{path.name} loads a model in {len(loads)} cells: expected one"
        loads[0].source = loads[0].source.replace(LOAD, f"qwen3lab.load({model!r})")
    return book


def execute(book: nbformat.NotebookNode, folder: Path = NOTEBOOKS) -> nbformat.NotebookNode:
    """Run all cells in a new kernel of a folder, with shorter trainings; raises a cell's error."""
    for cell in book.cells:
        cell.source = cell.source.replace(*TRAINING)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    client = NotebookClient(
        book,
        timeout=300,
        kernel_name="python3",
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment)
    return book


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


def write_book(path: Path, *cells: str) -> None:
    """Write a notebook with these code cells."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel
    )
    nbformat.write(book, path)
