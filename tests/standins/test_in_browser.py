"""Every explorer on each stand-in in a real browser, at two sizes and in both themes.

`QWEN3LAB_SCREENSHOTS` names a folder that keeps the pictures.
"""

import itertools
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.notebooks.books import write_book
from tests.notebooks.browser import browser, chromium, opened, screenshot_folder
from tests.notebooks.jupyter_server import jupyter_server
from tests.standins.test_books_and_explorers import EXPLORERS, MAX_NEW_TOKENS, STANDINS

pytestmark = [pytest.mark.standins, pytest.mark.slow, pytest.mark.browser]
SIZES = ((1366, 768), (1920, 1080))
THEMES = ("JupyterLab Light", "JupyterLab Dark")
OUTSIDE_OF_THEIR_CARD = """() => {
  const found = [];
  const scrolls = style => ["auto", "scroll", "hidden", "clip"].includes(style.overflowX);
  for (const card of document.querySelectorAll(".q3-explorer .q3-card")) {
    const right = card.getBoundingClientRect().right;
    for (const element of card.querySelectorAll("*")) {
      const box = element.getBoundingClientRect();
      if (box.width === 0 || box.right <= right + 1) continue;
      let parent = element.parentElement;
      while (parent !== card && !scrolls(getComputedStyle(parent))) parent = parent.parentElement;
      if (parent === card) found.push(`${element.className}: ${box.right} > ${right}`);
    }
  }
  return found;
}"""
"""The elements that stick out of their card at the right, and are not scrolled inside of it."""

ALL_DRAWN = """() => [...document.querySelectorAll(".q3-map")]
  .every(map => map.classList.contains("q3-is-empty") || "drawn" in map.dataset)"""
"""A map that says why it is empty is not drawn."""


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the pictures."""
    return screenshot_folder(tmp_path_factory)


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the server serves."""
    return tmp_path_factory.mktemp("books")


@pytest.fixture(scope="module")
def server(books: Path, tmp_path_factory: pytest.TempPathFactory):
    """A JupyterLab server of that folder."""
    chromium()
    with jupyter_server(books, tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@pytest.fixture(scope="module")
def tabs(tmp_path_factory: pytest.TempPathFactory):
    """The browser."""
    with browser(tmp_path_factory.mktemp("chromium")) as tabs:
        yield tabs


@pytest.mark.timeout(900)
@pytest.mark.parametrize("explorer", EXPLORERS)
@pytest.mark.parametrize("name", STANDINS)
def test_an_explorer_stays_inside_of_its_cards(
    tabs, server, books, screenshots, standin_folder, name, explorer
):
    load = f"import qwen3lab\nlab = qwen3lab.load({str(standin_folder(name))!r}, device='cpu')"
    show = f"from qwen3lab.widgets import {explorer}\n"
    show += f"explorer = {explorer}(lab, max_new_tokens={MAX_NEW_TOKENS[name]})\nexplorer"
    book_name = f"{name}-{explorer}.ipynb"
    write_book(books / book_name, load, show, "_ = explorer.wait()")
    with opened(tabs, server, book_name) as book:
        book.command("application:toggle-left-area")
        book.command("notebook:run-all-cells")
        book.page.locator(".q3-explorer").wait_for(timeout=300_000)
        for (width, height), theme in itertools.product(SIZES, THEMES):
            _look(book.page, width, height, theme)
            path = screenshots / f"{name}-{explorer}-{width}-{theme.split()[-1].lower()}.png"
            book.page.locator(".q3-explorer").screenshot(path=path)
            book.page.screenshot(path=path.with_stem(f"{path.stem}-page"))
            assert book.page.evaluate(OUTSIDE_OF_THEIR_CARD) == []
        assert book.external_requests == [] and book.page_errors == []


def _look(page: Page, width: int, height: int, theme: str) -> None:
    """Resize the window, choose the theme, and wait until everything is drawn."""
    page.set_viewport_size({"width": width, "height": height})
    change = "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})"
    page.evaluate(change, theme)
    page.locator(f'body[data-jp-theme-name="{theme}"]').wait_for(state="attached")
    page.locator(".q3-explorer").scroll_into_view_if_needed()
    page.wait_for_function(ALL_DRAWN, timeout=30_000)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 300)))")
