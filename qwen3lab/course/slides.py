"""Slides of the notebooks: one HTML file for each, which works without a network."""

import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qwen3lab.errors import StorageError
from qwen3lab.storage.atomic_files import write_text
from qwen3lab.translation import tr

HERE = Path(__file__).parent
LINES_OF_A_SLIDE = 15
"""Lines of text that fit on a slide."""
CHARACTERS_OF_A_LINE = 92
SECONDS_OF_A_CELL = 900
"""Limit for one cell, such as the training of notebook 04 on a slow machine."""

FETCHED_SCRIPT = re.compile(r'<script src="https?://[^"]*"></script>')
"""Plotly asks for MathJax, which no figure here uses."""

Note = Callable[[str], None]


def write_slides(
    books: Sequence[Path], folder: Path, *, run: bool = False, note: Note = print
) -> list[Path]:
    """Write the slides of notebooks, and return the files.

    A heading starts a new slide. Text that does not fit on a slide is continued below it (the
    arrow down), and so is the code after it.

    Args:
        books: the notebooks.
        folder: for the slides; made if missing.
        run: run the notebooks first, so that the slides have their figures.
        note: called with one line for each notebook.

    Raises:
        ImportError: nbconvert is not installed.
        StorageError: a notebook cannot be read.
    """
    if find_spec("nbconvert") is None:
        raise ImportError(tr("nbconvert is not installed: run pip install 'qwen3lab[lab]'"))
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for book in books:
        path = folder / f"{book.stem}.slides.html"
        note(tr("{name}, which is run first ...", name=book.name) if run else f"{book.name} ...")
        write_text(path, slides_of(book, run=run))
        written.append(path)
    return written


def slides_of(book: Path, *, run: bool = False) -> str:
    """The slides of a notebook as one HTML page."""
    import nbformat

    try:
        notebook: Any = nbformat.read(book, as_version=4)
    except Exception as error:
        raise StorageError(
            tr("{book} cannot be read as a notebook: {error}", book=book, error=error)
        ) from error
    if run:
        notebook = _run(notebook, book.parent)
    notebook.cells = list(_cells(notebook.cells))
    return _page(notebook, book.stem)


def _page(notebook: Any, name: str) -> str:
    from nbconvert.exporters import SlidesExporter

    exporter = SlidesExporter(
        extra_template_basedirs=[str(HERE)], template_name=(HERE / "template").name
    )
    resources = {
        "metadata": {"name": name},
        "reveal_js": (HERE / "reveal" / "reveal.js").read_text("utf-8"),
        "reveal_css": (HERE / "reveal" / "reveal.css").read_text("utf-8"),
        "slides_css": (HERE / "template" / "slides.css").read_text("utf-8"),
    }
    text, _ = exporter.from_notebook_node(notebook, resources)
    return text


def _run(notebook: Any, folder: Path) -> Any:
    """The notebook with its outputs; plotly draws its figures from a script inside of the page."""
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell

    renderer = "import plotly.io as pio; pio.renderers.default = 'notebook'"
    notebook = deepcopy(notebook)
    notebook.cells.insert(0, new_code_cell(renderer))
    client = NotebookClient(
        notebook,
        timeout=SECONDS_OF_A_CELL,
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    del notebook.cells[0]
    for cell in notebook.cells:
        cell.outputs = [_shown(output) for output in cell.get("outputs", ())]
    return notebook


def _shown(output: Any) -> Any:
    """An output without the live widget, which needs a kernel, and without scripts of the net."""
    data = output.get("data", {})
    data.pop("application/vnd.jupyter.widget-view+json", None)
    if "text/html" in data:
        data["text/html"] = FETCHED_SCRIPT.sub("", data["text/html"])
    return output


def _cells(cells: Sequence[Any]) -> Iterator[Any]:
    """The cells with their kinds of slide; long text is cut between its paragraphs."""
    room = 0
    for cell in cells:
        if cell.cell_type == "code":
            lines = len(cell.source.splitlines()) + (LINES_OF_A_SLIDE if cell.outputs else 0)
            yield _typed(cell, "-" if lines <= room else "subslide")
            room = 0
            continue
        for text in pages(cell.source):
            part = deepcopy(cell)
            part.source, part.id = text, f"{cell.id}-{len(text)}"
            yield _typed(part, "slide" if text.startswith("#") else "subslide")
            room = LINES_OF_A_SLIDE - _lines(text)


def _typed(cell: Any, kind: str) -> Any:
    """The cell with a kind of slide, unless its author has chosen one."""
    cell.metadata.setdefault("slideshow", {}).setdefault("slide_type", kind)
    return cell


def pages(text: str) -> list[str]:
    """The text of a cell in parts that each fit on a slide, cut at empty lines and headings."""
    found: list[str] = []
    for block in re.split(r"\n\s*\n|\n(?=#)", text.strip()):
        joined = f"{found[-1]}\n\n{block}" if found else block
        is_new = not found or block.startswith("#") or _lines(joined) > LINES_OF_A_SLIDE
        if is_new:
            found.append(block)
        else:
            found[-1] = joined
    return found


def _lines(text: str) -> int:
    """Lines that a text takes on a slide; a paragraph is wrapped again there."""
    blocks = re.split(r"\n\s*\n|\n(?=[-*#\d])", text)
    return sum(1 + len(block) // CHARACTERS_OF_A_LINE for block in blocks)
