"""Questions that a student types, in a real browser: the workbench says what the model knows."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.notebooks.books import write_book
from tests.notebooks.browser import Book, opened
from tests.notebooks.jupyter_server import Server
from tests.widgets.explorers.test_notice_compute import OTHERS

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LOAD = "import qwen3lab\nfrom qwen3lab.widgets import Workbench\nlab = qwen3lab.load('tiny-moe')"


@pytest.fixture(scope="module")
def book(tabs: BrowserContext, server: Server, folder: Path) -> Iterator[Book]:
    write_book(folder / "others.ipynb", LOAD, "bench = Workbench(lab, question='3+4=?')\nbench")
    with opened(tabs, server, "others.ipynb") as book:
        book.page.set_viewport_size({"width": 1366, "height": 768})
        book.command("application:toggle-left-area")
        book.command("notebook:run-all-cells")
        expect(book.page.locator(".q3-note")).to_contain_text("Finished", timeout=60_000)
        book.page.locator(".q3-bench-body").scroll_into_view_if_needed()
        yield book


def ask(book: Book, question: str) -> None:
    box = book.page.locator(".q3-ask input[type=text]").first
    box.fill(question)
    box.press("Enter")
    expect(book.page.locator(".q3-question")).to_contain_text(question[:20])
    expect(book.page.locator(".q3-note")).to_contain_text("Finished", timeout=30_000)


@pytest.mark.parametrize("thinking", [True, False])
def test_each_question_shows_the_notice_in_the_window(
    book: Book, screenshots: Path, thinking: bool
) -> None:
    fold = book.page.locator(".q3-fold-settings").first
    fold.click()
    book.page.get_by_label("think first").set_checked(thinking)
    fold.click()
    for number, question in enumerate(OTHERS):
        ask(book, question)
        notice = book.page.locator(".q3-notice")
        expect(notice).to_contain_text("What it knows")
        expect(notice).to_contain_text(re.compile(r"Least certain token: “.+” \(\d+%\)"))
        assert notice.locator("button").count() == 3
        box = notice.bounding_box()
        talk = book.page.locator(".q3-scroll").bounding_box()
        assert box is not None and box["y"] + box["height"] <= 768
        assert talk is not None and talk["height"] >= 60
        book.page.screenshot(path=screenshots / f"other-{number}-{thinking}.png")


def test_a_click_on_an_example_asks_it_and_the_notice_goes(book: Book) -> None:
    ask(book, "hello")
    first = book.page.locator(".q3-notice button").first
    question = first.inner_text()
    first.click()
    expect(book.page.locator(".q3-question")).to_contain_text(question)
    expect(book.page.locator(".q3-notice")).to_be_hidden()
