"""The workbench at 125 % and 200 %, in a narrow panel, and with texts that are hard to set.

A browser's zoom divides the window by its factor, which is what these tests do.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.notebooks.books import write_book
from tests.notebooks.browser import Book, opened
from tests.notebooks.jupyter_server import Server
from tests.notebooks.test_browser_workbench import LOAD, TABS, is_in_window

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SIZES = {
    "125": (1366 / 1.25, 768 / 1.25),
    "200": (1366 / 2, 768 / 2),
    "large-200": (1920 / 2, 1080 / 2),
    "narrow": (700, 900),
    "full": (1920, 1080),
}

OUT_OF_REACH = """() => {
  const bench = document.querySelector(".q3-bench"), found = [];
  const seen = ".q3-bench button, .q3-bench input, .q3-bench select, .q3-bench .q3-heading, " +
    ".q3-bench .lm-TabBar-tabLabel, .q3-bench .q3-card";
  for (const each of document.querySelectorAll(seen)) {
    const box = each.getBoundingClientRect();
    if (!box.width || !box.height) continue;
    let scrolls = { x: false, y: false };
    let outer = each;
    while ((outer = outer.parentElement) !== bench.parentElement) {
      const style = getComputedStyle(outer), frame = outer.getBoundingClientRect();
      if (style.display === "contents") continue;
      scrolls.x ||= ["auto", "scroll"].includes(style.overflowX);
      scrolls.y ||= ["auto", "scroll"].includes(style.overflowY);
      const cutX = style.overflowX !== "visible" && !scrolls.x &&
        (box.left < frame.left - 1 || box.right > frame.right + 1);
      const cutY = style.overflowY !== "visible" && !scrolls.y &&
        (box.top < frame.top - 1 || box.bottom > frame.bottom + 1);
      if (cutX || cutY) {
        found.push(`${each.tagName} ${each.innerText || each.title} in ${outer.className}`);
        break;
      }
    }
  }
  return found;
}"""
"""What is cut off at a frame that does not scroll."""

SCROLLS_SIDEWAYS = """() => [...document.querySelectorAll(
  ".jp-WindowedPanel-outer, .jp-OutputArea-output, .q3-bench, .q3-bench-body, .q3-left"
)].filter((each) => each.scrollWidth > each.clientWidth + 1).map((each) => each.className)"""

MIXED = "مرحبا بالعالم 👩‍👩‍👧 小明拿着球。 def f(x): " + "Donaudampfschifffahrt" * 6
CHIPS = "from qwen3lab.widgets.components.textview import TextView\nview = TextView()\n"
CHIPS += f"tokens = ['مرحبا', ' بالعالم', '👩‍👩‍👧', '小明', '{'x' * 400}', '\\n', '    return']\n"
CHIPS += "view.show(tokens, ['prompt'] * len(tokens), 0)\nview"


@pytest.fixture(scope="module")
def book(tabs: BrowserContext, server: Server, folder: Path) -> Iterator[Book]:
    """A workbench whose first run has ended."""
    show = "bench = Workbench(lab, question='7+2*3-1*7+3=?')\nbench"
    write_book(folder / "zoom.ipynb", LOAD, show)
    with opened(tabs, server, "zoom.ipynb") as book:
        book.page.set_viewport_size({"width": 1366, "height": 768})
        book.command("application:toggle-left-area")
        book.command("notebook:run-all-cells")
        expect(book.page.locator(".q3-note")).to_contain_text("Finished", timeout=60_000)
        yield book


def resize(book: Book, width: float, height: float) -> None:
    """Set the window, and bring the workbench into view."""
    book.page.set_viewport_size({"width": int(width), "height": int(height)})
    book.page.wait_for_timeout(500)  # Sizes settle over several frames.
    book.page.locator(".q3-bench-body").evaluate("body => body.scrollIntoView({block: 'start'})")


@pytest.mark.parametrize("size", SIZES)
def test_everything_is_in_reach_at_this_size(size: str, book: Book, screenshots: Path) -> None:
    resize(book, *SIZES[size])
    for tab in TABS:
        book.open_tab(tab)
        book.page.wait_for_timeout(600)
        book.page.screenshot(path=screenshots / f"zoom-{size}-{tab.lower()}.png")
        assert book.page.evaluate(OUT_OF_REACH) == [], tab
        assert book.page.evaluate(SCROLLS_SIDEWAYS) == [], tab
        view = book.page.locator(".q3-view:visible")
        box = view.bounding_box()
        assert box is not None and box["height"] > 150, f"{tab} has no height"


@pytest.mark.parametrize("size", SIZES)
def test_a_picked_tokens_description_is_in_the_window_at_this_size(size: str, book: Book) -> None:
    resize(book, *SIZES[size])
    book.open_tab("Text")
    number = list(SIZES).index(size) + 4  # Another token than that of the size before.
    book.page.locator(".q3-word").nth(number).click()
    expect(book.page.locator(".q3-token")).to_contain_text(f"Token {number} “")
    assert is_in_window(book, book.page.locator(".q3-token > div").first)


def test_question_run_and_the_form_of_changes_are_in_one_window(
    book: Book, screenshots: Path
) -> None:
    resize(book, 1366, 768)
    book.open_tab("Text")
    card = book.page.locator(".q3-changes-card")
    card.get_by_title("Change a part of the model: the one that is picked").click()
    menu = card.get_by_title("The part to change")
    menu.select_option(menu.locator("option", has_text="MLP").inner_text())
    card.get_by_title("Put this change in force; Run asks with it").click()
    expect(card.locator(".q3-change")).to_contain_text(re.compile(r"MLP of layer \d off"))
    book.page.screenshot(path=screenshots / "changes-unfolded.png")
    left = book.page.locator(".q3-left")
    assert left.evaluate("left => left.scrollHeight <= left.clientHeight + 1")
    assert is_in_window(
        book,
        book.page.locator(".q3-ask input").first,
        book.page.get_by_title("Run the model on this question"),
        menu,
        card.get_by_role("button", name="Add, ask again"),
        card.locator(".q3-change button"),
        card.get_by_text("Copy as Python"),
        book.page.locator(".q3-noting input"),
    )


def test_texts_of_other_scripts_and_long_words_stay_in_their_frames(
    tabs: BrowserContext, server: Server, folder: Path, screenshots: Path
) -> None:
    show = f"Workbench(lab, question={MIXED!r}, thinking=False, max_new_tokens=24)"
    write_book(folder / "mixed.ipynb", LOAD, show, CHIPS)
    with opened(tabs, server, "mixed.ipynb") as book:
        page = book.page
        page.set_viewport_size({"width": 1366, "height": 768})
        book.command("application:toggle-left-area")
        book.command("notebook:run-all-cells")
        expect(page.locator(".q3-note").first).to_contain_text("Finished", timeout=60_000)
        page.locator(".q3-question").scroll_into_view_if_needed()
        expect(page.locator(".q3-question")).to_have_text(MIXED)
        for tab in ("Text", "Attention", "Routing", "Raw"):
            book.open_tab(tab)
            page.wait_for_timeout(600)
            page.screenshot(path=screenshots / f"mixed-{tab.lower()}.png")
            assert page.evaluate(OUT_OF_REACH) == [], tab
            assert page.evaluate(SCROLLS_SIDEWAYS) == [], tab
        question = page.locator(".q3-question")
        assert question.evaluate("each => each.scrollWidth <= each.clientWidth + 1")
        long = page.locator(".q3-word", has_text="x" * 400)
        long.scroll_into_view_if_needed()
        page.screenshot(path=screenshots / "mixed-tokens.png")
        outer, inner = page.locator(".q3-text").last.bounding_box(), long.bounding_box()
        assert outer is not None and inner is not None
        assert inner["x"] >= outer["x"] and inner["width"] <= outer["width"]
        assert inner["height"] > 2 * 13, "a long token is broken into lines"
        assert book.page_errors == []
