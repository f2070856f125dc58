"""Finding in the text, and branches, in a real browser: what is picked is in the window.

`QWEN3LAB_SCREENSHOTS` names a folder that keeps the pictures.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.notebooks.books import write_book
from tests.notebooks.browser import Book, opened
from tests.notebooks.jupyter_server import Server
from tests.notebooks.test_browser_workbench import LOAD, STICKS_OUT, THEMES, is_in_window

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def book(tabs: BrowserContext, server: Server, folder: Path) -> Iterator[Book]:
    """A workbench whose first run has ended, in a window of 1366 x 768."""
    show = "bench = Workbench(lab, question='7+2*3-1*7+3=?')\nbench"
    write_book(folder / "find.ipynb", LOAD, show)
    with opened(tabs, server, "find.ipynb") as book:
        book.page.set_viewport_size({"width": 1366, "height": 768})
        book.command("application:toggle-left-area")
        book.command("notebook:run-all-cells")
        expect(book.page.locator(".q3-note")).to_contain_text("Finished", timeout=60_000)
        book.page.locator(".q3-bench-body").scroll_into_view_if_needed()
        yield book


def picture(book: Book, screenshots: Path, name: str) -> None:
    """Pictures in both themes; nothing is cut off at the edge of its frame."""
    for theme in reversed(THEMES):
        change = "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})"
        book.page.evaluate(change, theme)
        book.page.locator(f'body[data-jp-theme-name="{theme}"]').wait_for(state="attached")
        book.page.wait_for_timeout(400)  # Sizes settle over several frames.
        book.page.screenshot(path=screenshots / f"{name}-{theme.split()[-1].lower()}.png")
        assert book.page.evaluate(STICKS_OUT) == []


def test_a_search_a_jump_and_a_branch_are_seen_in_the_window(book: Book, screenshots: Path) -> None:
    page, here = book.page, book.page.locator(".q3-word-here")
    box, count = page.get_by_label("Find in the text"), page.locator(".q3-find-count")
    box.fill("7")
    expect(count).to_have_text(re.compile(r"1 of \d+"))
    expect(here).to_have_text("7")
    box.press("Enter")
    expect(count).to_have_text(re.compile(r"2 of \d+"))
    expect(page.locator(".q3-token")).to_contain_text("“7”")
    assert is_in_window(book, here, box, page.locator(".q3-alternatives"))
    picture(book, screenshots, "find")
    box.press("Escape")
    expect(page.locator(".q3-word-hit")).to_have_count(0)
    expect(box).to_have_value("")
    page.get_by_role("button", name="largest").click()
    expect(page.locator(".q3-jumped")).to_have_text(re.compile("^largest of surprisal"))
    page.get_by_role("button", name="largest").click()
    expect(page.locator(".q3-jumped")).to_have_text(re.compile("^2nd largest of surprisal"))
    assert is_in_window(book, here, page.locator(".q3-jumped"))
    page.locator(".q3-thinking .q3-chip:not(.q3-mark)").nth(3).click()
    other = page.locator(".q3-alternative:enabled").first
    expect(other).to_be_visible()
    chosen = other.locator(".q3-alternative-text").inner_text()
    other.click()
    menu = page.locator(".q3-branches select")
    expect(menu).to_be_visible(timeout=60_000)  # The branch has been written.
    expect(menu.locator("option:checked")).to_contain_text(f"‘{chosen}’ instead of")
    expect(page.locator(".q3-alternative[aria-current]")).to_contain_text(chosen)
    expect(page.locator(".q3-chosen")).to_have_count(1)
    assert is_in_window(book, menu, page.locator(".q3-alternatives"), page.locator(".q3-chosen"))
    assert is_in_window(book, page.locator(".q3-bench-body")), "the page has not moved"
    expect(page.locator(".q3-alternatives")).to_be_focused()
    picture(book, screenshots, "branch")
    menu.select_option(label="original")
    expect(page.locator(".q3-chosen")).to_have_count(0)
    assert book.external_requests == [] and book.page_errors == []
