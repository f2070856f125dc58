"""What is kept of the workbench, in a real browser: notes, the drawer, and a saved notebook."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbconvert import HTMLExporter
from playwright.sync_api import BrowserContext, expect

from tests.notebooks.books import write_book
from tests.notebooks.browser import Book, opened
from tests.notebooks.jupyter_server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LOAD = "import qwen3lab\nfrom qwen3lab.widgets import Workbench\nlab = qwen3lab.load('tiny-moe')"
SHOW = "bench = Workbench(lab, question='7+2*3=?')\nbench"
CHANGE = "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})"


@pytest.fixture(scope="module")
def book(tabs: BrowserContext, server: Server, folder: Path) -> Iterator[Book]:
    """A workbench whose first run has ended, in a window of 1366 x 768."""
    write_book(folder / "keep.ipynb", LOAD, SHOW)
    with opened(tabs, server, "keep.ipynb") as book:
        book.page.set_viewport_size({"width": 1366, "height": 768})
        book.command("application:toggle-left-area")
        book.command("notebook:run-all-cells")
        expect(book.page.locator(".q3-note")).to_contain_text("Finished", timeout=60_000)
        book.page.locator(".q3-bench-body").scroll_into_view_if_needed()
        yield book


def test_a_note_is_written_on_the_picked_token_and_marked_in_the_text(book: Book) -> None:
    book.page.locator(".q3-word").nth(4).click()
    expect(book.page.locator(".q3-token")).to_contain_text("Token 4 “")
    book.page.locator(".q3-noting input").fill("<b>here</b>")
    book.page.locator(".q3-noting input").press("Enter")
    expect(book.page.locator(".q3-note-line")).to_have_text("token 4: <b>here</b>")
    expect(book.page.locator(".q3-word-noted")).to_have_count(1)


def test_the_drawer_saves_views_pages_and_pictures(
    book: Book, folder: Path, screenshots: Path
) -> None:
    page = book.page
    book.open_tab("Attention")
    page.locator(".q3-keep-open").click()
    drawer = page.locator(".q3-keep")
    expect(drawer.locator("textarea")).to_have_value(re.compile("bench.state.token = 4"))
    for name in ("Save view", "HTML page", "CSV"):
        drawer.get_by_role("button", name=name).click()
        expect(drawer.get_by_role("status")).to_contain_text("is written in")
    assert json.loads((folder / "view.json").read_text())["notes"][0]["text"] == "<b>here</b>"
    with page.expect_download() as download:
        drawer.get_by_role("button", name="Pictures").click()
    assert Path(download.value.path()).read_bytes()[:4] == b"\x89PNG"
    expect(drawer.get_by_role("status")).to_contain_text("saved by the browser")
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        page.evaluate(CHANGE, theme)
        page.locator(f'body[data-jp-theme-name="{theme}"]').wait_for(state="attached")
        page.wait_for_timeout(300)
        page.screenshot(path=screenshots / f"keep-drawer-{theme.split()[-1].lower()}.png")
    stage, card = page.locator(".q3-bench-stage").bounding_box(), drawer.bounding_box()
    assert stage and card and card["y"] + card["height"] <= stage["y"] + stage["height"]
    page.locator(".q3-keep-open").click()
    expect(drawer).to_be_hidden()
    book.open_tab("Text")
    assert book.external_requests == [] and book.page_errors == []


def test_a_saved_notebook_shows_the_last_view_without_a_kernel(
    book: Book, tabs: BrowserContext, server: Server, folder: Path, screenshots: Path
) -> None:
    picture = book.page.locator(".q3-kept")
    expect(picture).to_contain_text("Token 4 “")
    expect(picture).to_be_hidden()
    book.command("docmanager:save")
    book.command("kernelmenu:shutdown")
    page = tabs.new_page()
    page.set_viewport_size({"width": 1366, "height": 768})
    page.goto(server.page("keep.ipynb") + "&reset")
    page.locator(".q3-kept").wait_for(state="attached")
    expect(page.locator(".q3-kept")).to_be_visible()
    page.screenshot(path=screenshots / "keep-reopened.png")
    expect(page.locator(".q3-kept")).to_contain_text("token 4: <b>here</b>")
    assert page.locator(".q3-kept img").evaluate("img => img.naturalWidth") > 20
    gone = page.get_by_text(re.compile("Loading widget|model not found"))
    expect(gone).to_be_hidden()
    page.close()
    exported, _ = HTMLExporter().from_filename(str(folder / "keep.ipynb"))
    assert "token 4: &lt;b&gt;here&lt;/b&gt;" in exported and "data:image/png;base64" in exported
