"""The class board in a real browser: a student's new answer appears on the teacher's page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from qwen3lab.widgets.classroom.answers import Answer, write_answer
from tests.notebooks.books import write_book
from tests.notebooks.browser import Book, opened
from tests.notebooks.jupyter_server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]
THEMES = ("JupyterLab Light", "JupyterLab Dark")


def shared(folder: Path, name: str, question: str, answer: str, *, thinking: bool = True) -> None:
    write_answer(folder, Answer(name, question, answer, thinking, 22, "tiny-moe", "natural"))


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("class")
    shared(folder, "Ann", "12+30-7*2+8-15=?", "63")
    shared(folder, "Ben", "12+30-7*2+8-15=?", "49", thinking=False)
    shared(folder, "小明", "小明拿着球。小红拿着书。小明和小红交换。小红拿着什么？", "小红球")
    shared(folder, "<b>Zoe</b>", "<script>document.title='bad'</script>", "<img src=x>")
    (folder / "0000000000000000.answer.json").write_text("{")
    return folder


@pytest.fixture(scope="module")
def book(tabs: BrowserContext, server: Server, folder: Path, shared_folder: Path) -> Iterator[Book]:
    cell = f"from qwen3lab.widgets import ClassBoard\nClassBoard({str(shared_folder)!r}, every=0.5)"
    write_book(folder / "board.ipynb", cell)
    with opened(tabs, server, "board.ipynb") as book:
        book.page.set_viewport_size({"width": 1366, "height": 768})
        book.command("application:toggle-left-area")
        book.command("notebook:run-all-cells")
        expect(book.page.locator(".q3-class tbody tr")).to_have_count(4)
        yield book


def test_the_board_shows_text_as_text_and_what_it_left_out(book: Book, screenshots: Path) -> None:
    rows = book.page.locator(".q3-class tbody tr")
    expect(rows.filter(has_text="Ann")).to_contain_text("✓ right")
    expect(rows.filter(has_text="Ben")).to_contain_text("✗ wrong")
    expect(rows.filter(has_text="小明拿着")).to_contain_text("✓ right")
    expect(rows.filter(has_text="Zoe")).to_contain_text("<script>")
    assert book.page.locator(".q3-class img, .q3-class script").count() == 0
    expect(book.page.get_by_role("alert")).to_contain_text("0000000000000000.answer.json")
    for theme in THEMES:
        book.page.evaluate(
            "name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})",
            theme,
        )
        expect(book.page.locator("body")).to_have_attribute("data-jp-theme-name", theme)
        book.page.screenshot(path=screenshots / f"board-{theme[-5:].strip()}.png")
    assert book.external_requests == [] and book.page_errors == []


def test_a_new_answer_appears_by_itself(book: Book, shared_folder: Path) -> None:
    shared(shared_folder, "Late", "3+4=?", "7")
    expect(book.page.locator(".q3-class tbody tr").filter(has_text="Late")).to_be_visible()
    expect(book.page.locator(".q3-row")).to_contain_text("5 students: 3 right, 1 wrong")
