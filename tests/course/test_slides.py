"""Slides of the notebooks: nothing is lost, nothing is fetched, and a browser shows them."""

import re
from pathlib import Path

import nbformat
import pytest

from qwen3lab.course.slides import LINES_OF_A_SLIDE, pages, slides_of, write_slides
from qwen3lab.errors import StorageError
from qwen3lab.jupyter.working_copy import shipped_notebooks
from tests.notebooks.browser import browser

BOOKS = sorted(shipped_notebooks().glob("[0-9]*.ipynb"))
ADDRESS = re.compile(r"""(?:src|href)=["'](https?:[^"']+)|url\((https?:[^)]+)""")


def book(folder: Path, *cells: nbformat.NotebookNode) -> Path:
    path = folder / "book.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), path)
    return path


def shown(context, path: Path):
    """A page with the slides, and the addresses that it asked for elsewhere."""
    page, asked = context.new_page(), []
    local = ("file:", "data:", "blob:")
    page.on("request", lambda r: r.url.startswith(local) or asked.append(r.url))
    page.goto(path.as_uri())
    page.wait_for_selector(".reveal.ready")
    return page, asked


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_slides_have_all_text_and_code_of_a_notebook_and_fetch_nothing(path):
    text = slides_of(path)
    assert not [found for found in ADDRESS.findall(text) if "cdn" in "".join(found)]
    assert "<script src=" not in text
    for cell in nbformat.read(path, as_version=4).cells:
        for word in re.findall(r"[A-Za-z]{12,}", cell.source):
            assert word in text


def test_long_text_is_cut_between_paragraphs_and_keeps_its_words():
    paragraphs = [f"{n} " + "word " * 60 for n in range(12)]
    found = pages("\n\n".join(paragraphs))
    assert 1 < len(found) < 12
    assert " ".join(found).split() == " ".join(paragraphs).split()
    assert max(len(page) for page in found) < 92 * LINES_OF_A_SLIDE


def test_a_heading_begins_a_slide_even_where_there_is_room():
    assert pages("# One\ntext\n\n## Two\nmore") == ["# One\ntext", "## Two\nmore"]


def test_a_file_that_is_no_notebook_is_refused_with_its_name(tmp_path):
    path = tmp_path / "notes.ipynb"
    path.write_text("no notebook")
    with pytest.raises(StorageError, match=r"notes\.ipynb cannot be read as a notebook"):
        slides_of(path)


@pytest.mark.browser
def test_a_browser_without_a_network_shows_every_slide_and_its_figures(tmp_path):
    title = nbformat.v4.new_markdown_cell("# A *title* with <b>tags</b>")
    plot = nbformat.v4.new_code_cell(
        "import plotly.graph_objects as go\ngo.Figure(go.Bar(y=[3, 1, 2]))"
    )
    path = book(tmp_path, title, plot)
    (written,) = write_slides([path], tmp_path / "out", run=True, note=lambda _: None)
    with browser(tmp_path / "profile", width=1366, height=768) as context:
        page, asked = shown(context, written)
        assert page.evaluate("reveal.getTotalSlides()") == 2
        assert page.locator("h1").inner_text() == "A title with tags"
        page.keyboard.press("ArrowDown")
        box = page.locator(".js-plotly-plot").bounding_box()
        assert page.locator(".js-plotly-plot .point").count() == 3
        assert box is not None and box["width"] > 600
        assert asked == []
