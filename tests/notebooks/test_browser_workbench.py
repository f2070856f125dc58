"""The workbench in a real browser: what a click changes is in the window, and two stand together.

`QWEN3LAB_SCREENSHOTS` names a folder that keeps the pictures.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Locator, expect

from tests.notebooks.books import write_book
from tests.notebooks.browser import Book, opened
from tests.notebooks.jupyter_server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LOAD = "import qwen3lab\nfrom qwen3lab.widgets import Workbench\nlab = qwen3lab.load('tiny-moe')"
TABS = ("Text", "Attention", "Routing", "Thinking", "Why", "Compare", "Raw")
SIZES = ((1366, 768), (1920, 1080))
THEMES = ("JupyterLab Light", "JupyterLab Dark")

STICKS_OUT = """() => {
  const found = [];
  for (const pane of document.querySelectorAll(".q3-bench .q3-card")) {
    const box = pane.getBoundingClientRect();
    if (!box.width) continue;
    for (const child of pane.children) {
      const inner = child.getBoundingClientRect();
      if (inner.height && (inner.bottom > box.bottom + 1 || inner.right > box.right + 1)) {
        found.push(`${pane.innerText.slice(0, 20)}: ${child.className}`);
      }
    }
  }
  return found;
}"""
"""What is cut off at the edge of its frame."""

NAMELESS = """bench => [...bench.querySelectorAll("button, input, select, [tabindex='0']")]
  .filter(each => each.offsetParent && !each.closest(".dt-container"))
  .filter(each => ![each.ariaLabel, each.title, each.innerText.trim(),
    each.labels?.[0]?.innerText, each.getAttribute("aria-labelledby"),
    each.closest("[title]")?.title].some(Boolean))
  .map(each => `${each.tagName} ${each.className}`)"""
"""Controls that are seen and have no name."""


@pytest.fixture(scope="module")
def book(tabs: BrowserContext, server: Server, folder: Path) -> Iterator[Book]:
    """A workbench whose first run has ended, in a window of 1366 x 768."""
    show = "bench = Workbench(lab, question='7+2*3-1*7+3=?')\nbench"
    write_book(folder / "workbench.ipynb", LOAD, show)
    with opened(tabs, server, "workbench.ipynb") as book:
        book.page.set_viewport_size({"width": 1366, "height": 768})
        book.command("application:toggle-left-area")
        book.command("notebook:run-all-cells")
        expect(book.page.locator(".q3-note")).to_contain_text("Finished", timeout=60_000)
        book.page.locator(".q3-bench-body").scroll_into_view_if_needed()
        yield book


def is_in_window(book: Book, *found: Locator) -> bool:
    """True if these are in the window as a whole, below the menu of JupyterLab."""
    size, menu = book.page.viewport_size, book.page.locator(".jp-Notebook:visible").bounding_box()
    assert size is not None and menu is not None
    boxes = [each.bounding_box() for each in found]
    return all(
        box is not None
        and box["x"] >= 0
        and box["y"] >= menu["y"] - 1
        and box["x"] + box["width"] <= size["width"] + 1
        and box["y"] + box["height"] <= min(size["height"], menu["y"] + menu["height"]) + 1
        for box in boxes
    )


def test_the_whole_workbench_fits_the_window(book: Book) -> None:
    body = book.page.locator(".q3-bench-body")
    for width, height in SIZES:
        book.page.set_viewport_size({"width": width, "height": height})
        body.scroll_into_view_if_needed()
        assert is_in_window(book, body, book.page.locator(".q3-token"))
        box = body.bounding_box()
        assert box is not None and box["height"] > height - 200
    book.page.set_viewport_size({"width": 1366, "height": 768})
    body.scroll_into_view_if_needed()


def test_a_clicked_head_opens_its_map_in_the_window(book: Book) -> None:
    book.open_tab("Attention")
    wall = book.card("All heads").locator(".q3-overlay:visible")
    wall.click(position={"x": 60, "y": 20})
    book.wait_for_title("Attention map", "Attention of layer 0, head 0")
    assert is_in_window(book, wall, book.card("Attention map").locator(".q3-stage"))


def test_a_clicked_token_shows_its_description_in_the_window(book: Book) -> None:
    before = book.page.locator(".q3-scroll").bounding_box()
    book.page.locator(".q3-answer .q3-chip:not(.q3-mark)").first.click()
    notes = book.page.locator(".q3-token")
    expect(notes).to_contain_text(re.compile(r"Token \d+ “.+”: probability"))
    assert is_in_window(book, notes, book.page.locator(".q3-picked"))
    assert book.page.locator(".q3-scroll").bounding_box() == before, "the page has not moved"


def test_a_pick_in_one_view_is_marked_in_the_others(book: Book) -> None:
    book.open_tab("Text")
    word = book.page.locator(".q3-word").nth(8)
    word.click()
    expect(word).to_have_class(re.compile("q3-word-here"))
    expect(book.page.locator(".q3-token")).to_contain_text("Token 8 “")
    book.open_tab("Routing")
    book.wait_for_title("Selected token", "Experts of token 8 in every layer")
    assert is_in_window(book, *book.page.locator(".q3-view:visible .q3-pane").all())


def test_a_second_run_is_compared_in_the_window_and_its_cells_pick_tokens(book: Book) -> None:
    book.open_tab("Compare")
    book.page.get_by_label("compare with").select_option("the other thinking mode")
    differs = book.card("Difference")
    title = re.compile(r"^Attention of layer \d, head \d: with thinking minus without thinking$")
    expect(differs.locator(".q3-map")).to_have_attribute("data-title", title, timeout=60_000)
    replies = book.card("Replies")
    expect(replies.locator(".q3-run-name")).to_have_text(["with thinking", "without thinking"])
    canvas = differs.locator(".q3-overlay:visible")
    assert is_in_window(book, replies, differs, canvas)
    size = canvas.bounding_box()
    assert size is not None
    pair = differs.locator(".q3-notes")
    before = pair.inner_text()
    canvas.click(position={"x": size["width"] / 2, "y": size["height"] / 3})
    expect(pair).not_to_have_text(before)
    expect(pair).to_contain_text(re.compile(r"Token \d+ “.*” corresponds to token \d+"))
    number = re.search(r"Token \d+", pair.inner_text())
    assert number is not None
    expect(book.page.locator(".q3-token")).to_contain_text(f"{number.group()} “")
    assert is_in_window(book, differs, pair)


def test_tabs_and_controls_have_roles_and_names(book: Book) -> None:
    bench = book.page.locator(".q3-bench")
    expect(bench.get_by_role("tablist")).to_be_visible()
    expect(bench.get_by_role("tab")).to_have_text(list(TABS))
    expect(bench.get_by_role("status").first).to_contain_text("Finished")
    for tab in TABS:
        book.open_tab(tab)
        nameless = bench.evaluate(NAMELESS)
        for _ in range(20):  # Widgets get their names after they are on the page.
            if nameless:
                book.page.wait_for_timeout(500)
                nameless = bench.evaluate(NAMELESS)
        assert nameless == [], tab


def test_axe_finds_nothing_serious_in_any_view(book: Book) -> None:
    axe = Axe()
    for tab in TABS:
        book.open_tab(tab)
        book.page.wait_for_timeout(1000)
        found = axe.run(book.page, ".q3-bench").response["violations"]
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        assert [(each["id"], each["nodes"][0]["html"]) for each in serious] == [], tab


def test_a_tab_is_opened_with_the_keyboard(book: Book) -> None:
    book.open_tab("Text")
    book.page.get_by_role("tab", name="Text", exact=True).focus()
    book.page.keyboard.press("ArrowRight")
    book.page.keyboard.press("Enter")
    tab = book.page.get_by_role("tab", name="Attention", exact=True)
    expect(tab).to_have_attribute("aria-selected", "true")


def test_every_view_looks_whole_at_two_sizes_in_both_themes(book: Book, screenshots: Path) -> None:
    page = book.page
    for (width, height), theme in itertools.product(SIZES, THEMES):
        page.set_viewport_size({"width": width, "height": height})
        change = "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})"
        page.evaluate(change, theme)
        page.locator(f'body[data-jp-theme-name="{theme}"]').wait_for(state="attached")
        page.locator(".q3-bench-body").scroll_into_view_if_needed()
        for tab in TABS:
            book.open_tab(tab)
            page.wait_for_timeout(400)  # Sizes settle over several frames.
            name = f"workbench-{tab.lower()}-{width}-{theme.split()[-1].lower()}.png"
            page.screenshot(path=screenshots / name)
            assert page.evaluate(STICKS_OUT) == [], name
    page.evaluate(change, THEMES[0])
    page.set_viewport_size({"width": 1366, "height": 768})
    assert book.external_requests == [] and book.page_errors == []


def test_a_changed_part_stays_in_the_window_beside_what_it_changed(book: Book) -> None:
    card = book.page.locator(".q3-changes-card")
    card.get_by_title("Change a part of the model: the one that is picked").click()
    menu = card.get_by_title("The part to change")
    menu.select_option(menu.locator("option", has_text="MLP").inner_text())
    card.get_by_role("button", name="Add, ask again").click()
    change = card.locator(".q3-change")
    expect(change).to_contain_text(re.compile(r"MLP of layer \d off"))
    expect(card.locator(".q3-outcome")).to_contain_text("without the changes: 185")
    assert is_in_window(
        book, change, card.locator(".q3-outcome"), card.get_by_text("Copy as Python")
    )
    assert book.page.evaluate(STICKS_OUT) == []
    change.get_by_role("button").click()
    expect(change).to_have_count(0)
    assert book.page_errors == []


def test_two_workbenches_of_one_model_stand_on_one_page(
    tabs: BrowserContext, server: Server, folder: Path
) -> None:
    show = "Workbench(lab, question={!r}, thinking=False)"
    write_book(folder / "two.ipynb", LOAD, show.format("3+4=?"), show.format("6-2*3=?"))
    with opened(tabs, server, "two.ipynb") as book:
        book.command("application:toggle-left-area")
        book.command("notebook:run-all-cells")
        questions, notes = book.page.locator(".q3-question"), book.page.locator(".q3-note")
        expect(questions).to_have_text(["3+4=?", "6-2*3=?"], timeout=60_000)
        for number in (0, 1):
            expect(notes.nth(number)).to_contain_text("Finished", timeout=60_000)
        expect(book.page.locator(".q3-bench-body")).to_have_count(2)
        # The same cell again replaces its own workbench, and leaves the other one.
        book.command("notebook:run-all-cells")
        expect(notes.nth(1)).to_contain_text("Finished", timeout=60_000)
        expect(questions).to_have_text(["3+4=?", "6-2*3=?"])
        assert book.external_requests == [] and book.page_errors == []
