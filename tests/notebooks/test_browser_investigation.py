"""One investigation in a real browser, as `guide/cases/a-wrong-digit.md` tells it, in pictures.

`QWEN3LAB_SCREENSHOTS` names a folder that keeps them: each step in both themes and two sizes.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.notebooks.books import write_book
from tests.notebooks.browser import Book, opened
from tests.notebooks.jupyter_server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LOAD = "import qwen3lab\nfrom qwen3lab.widgets import Workbench\nlab = qwen3lab.load('tiny-moe')"
QUESTION = "255 + 54 - 60 * 1 + 29 + 3 + 24=?"
SIZES, THEMES = ((1366, 768), (1920, 1080)), ("JupyterLab Light", "JupyterLab Dark")


@pytest.fixture(scope="module")
def book(tabs: BrowserContext, server: Server, folder: Path) -> Iterator[Book]:
    """A workbench that has given a wrong answer."""
    write_book(
        folder / "digit.ipynb", LOAD, f"bench = Workbench(lab, question={QUESTION!r})\nbench"
    )
    with opened(tabs, server, "digit.ipynb") as book:
        book.page.set_viewport_size({"width": 1366, "height": 768})
        book.command("application:toggle-left-area")
        book.command("notebook:run-all-cells")
        expect(book.page.locator(".q3-note").first).to_contain_text("Finished", timeout=60_000)
        yield book


class Film:
    """Takes a picture of each step at both sizes and in both themes."""

    def __init__(self, book: Book, folder: Path) -> None:
        self.book, self.folder, self.n = book, folder, 0

    def take(self, step: str) -> None:
        """The pictures of one step."""
        self.n += 1
        page = self.book.page
        for theme, (width, height) in itertools.product(THEMES, SIZES):
            change = "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})"
            page.evaluate(change, theme)
            page.locator(f'body[data-jp-theme-name="{theme}"]').wait_for(state="attached")
            page.set_viewport_size({"width": width, "height": height})
            page.locator(".q3-bench-body").scroll_into_view_if_needed()
            page.wait_for_timeout(400)  # Sizes settle over several frames.
            mode = theme.split()[-1].lower()
            page.screenshot(path=self.folder / f"digit-{self.n}-{step}-{width}-{mode}.png")


def test_a_wrong_digit_is_found_explained_mended_and_kept(
    book: Book, screenshots: Path, folder: Path
) -> None:
    page, film = book.page, Film(book, screenshots)
    answer = page.locator(".q3-answer")
    expect(answer).to_contain_text(re.compile(r"2\s*0\s*5"))
    film.take("wrong")
    page.get_by_role("button", name="largest").click()
    token = page.locator(".q3-token")
    expect(token).to_contain_text("Token 101 “2”")
    right = page.locator(".q3-alternative", has_text="3").first
    expect(right).to_contain_text("31%")
    film.take("where")
    book.open_tab("Why")
    other = page.get_by_placeholder("runner-up")
    other.fill("3")
    other.press("Enter")
    expect(book.card("What wrote it").locator(".q3-figure")).to_contain_text("head 3.0")
    film.take("why")
    card = page.locator(".q3-changes-card")
    card.get_by_title("Change a part of the model: the one that is picked").click()
    page.locator(".q3-word, .q3-chip").nth(0).wait_for(state="attached")
    book.open_tab("Text")
    page.locator(".q3-word").nth(100).click()
    expect(token).to_contain_text("Token 100 “=”")
    what = card.get_by_title("The part to change")
    what.select_option(what.locator("option", has_text="head 3.0").inner_text())
    card.get_by_title("The tokens at which it is changed").select_option("at the token")
    card.get_by_role("button", name="Add, ask again").click()
    expect(card.locator(".q3-outcome")).to_contain_text("without the changes: 205")
    expect(answer).to_contain_text(re.compile(r"3\s*0\s*5"))
    film.take("mended")
    book.open_tab("Compare")
    page.get_by_label("compare with").select_option("without the changes")
    expect(book.card("Replies")).to_contain_text("305")
    expect(book.card("Replies")).to_contain_text("205")
    film.take("compared")
    page.get_by_role("button", name="Keep").first.click()
    name = page.locator(".q3-keep input").first
    name.fill("wrong-digit")
    name.press("Tab")
    page.get_by_role("button", name="HTML page").click()
    expect(page.locator(".q3-keep")).to_contain_text("wrong-digit.html")
    film.take("kept")
    kept = page.context.new_page()
    kept.goto((folder / "wrong-digit.html").as_uri())
    expect(kept.locator("body")).to_contain_text("305")
    kept.screenshot(path=screenshots / "digit-7-page.png")
    kept.close()
    assert book.external_requests == [] and book.page_errors == []
