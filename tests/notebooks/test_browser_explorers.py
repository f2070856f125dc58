"""The routing and the thinking explorer in a real browser, clicked and typed at. Offline."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.notebooks.books import write_book
from tests.notebooks.browser import opened
from tests.notebooks.jupyter_server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LOAD = "import qwen3lab\nlab = qwen3lab.load('tiny-moe')"


def test_the_routing_explorer_goes_from_a_token_to_an_expert_to_its_switch(
    tabs: BrowserContext, server: Server, folder: Path, screenshots: Path
) -> None:
    show = "from qwen3lab.widgets import RoutingExplorer\nRoutingExplorer(lab, question='7+2*3=?')"
    write_book(folder / "routing.ipynb", LOAD, show)
    with opened(tabs, server, "routing.ipynb") as book:
        book.command("application:toggle-left-area")
        book.command("notebook:run-all-cells")
        book.card("Expert routing").locator(".q3-map[data-drawn]").wait_for()
        # With the mouse a token of the reply, with the keyboard one of its experts.
        book.page.locator(".q3-answer .q3-chip").first.click()
        token = book.card("This token in every layer")
        token.locator(".q3-map[data-drawn]").wait_for()
        expect(token.locator(".q3-notes")).to_contain_text("router entropy")
        overlay = book.card("Expert routing").locator(".q3-overlay")
        overlay.focus()
        for key in ("ArrowRight", "ArrowDown", "Enter"):
            overlay.press(key)
        expert = book.card("This expert")
        expect(expert).to_contain_text(re.compile(r"Expert \d+ of layer \d+ serves \d+ of \d+"))
        expert.get_by_role("button", name="What does it write?").click()
        expect(expert).to_contain_text("raises")
        expert.get_by_role("button", name="Switch off and ask again").click()
        replies = book.card("Replies")
        expect(replies).to_contain_text("every expert on")
        expect(replies).to_contain_text(re.compile(r"without expert \d+ of layer \d+"))
        book.wait_for_title("Load", "Load of this run less that of every expert on")
        expect(expert.get_by_role("button", name="Switch on and ask again")).to_be_enabled()
        book.page.locator(".q3-explorer").screenshot(path=screenshots / "routing.png")
        assert book.left == [] and book.problems == []


def test_the_routing_explorer_shows_94_layers_of_128_experts(
    tabs: BrowserContext, server: Server, folder: Path, deep_folder: Path, screenshots: Path
) -> None:
    load = f"import qwen3lab\nlab = qwen3lab.load({str(deep_folder)!r})"
    show = "from qwen3lab.widgets import RoutingExplorer\n"
    show += "RoutingExplorer(lab, question='7+2*3=?', max_new_tokens=12)"
    write_book(folder / "deep.ipynb", load, show)
    with opened(tabs, server, "deep.ipynb") as book:
        book.command("application:toggle-left-area")
        book.command("notebook:run-all-cells")
        book.card("Load").locator(".q3-map[data-drawn]").wait_for(timeout=60_000)
        # Another layer's last expert, by keyboard.
        overlay = book.card("Load").locator(".q3-overlay")
        overlay.focus()
        for key in ("ArrowDown", "End", "Enter"):
            overlay.press(key)
        readout = book.card("Load").locator(".q3-readout")
        expect(readout).to_have_text(re.compile(r"layer \d+ → expert 127: "))
        expect(book.card("This expert")).to_contain_text(re.compile(r"Expert 127 of layer \d+"))
        book.page.locator(".q3-chip").first.click()
        book.card("This token in every layer").locator(".q3-map[data-drawn]").wait_for()
        book.page.locator(".q3-explorer").screenshot(path=screenshots / "deep.png")
        assert book.left == [] and book.problems == []


def test_the_thinking_explorer_is_stopped_while_it_thinks_and_looked_at_afterwards(
    tabs: BrowserContext, server: Server, folder: Path, screenshots: Path
) -> None:
    """At the pace of a large model, so that there is something to stop."""
    slow = LOAD + "\nimport time\nlab.model.register_forward_pre_hook("
    slow += "lambda *_: time.sleep(0.1 if running else 0))\nrunning = [1]"
    show = "from qwen3lab.widgets import ThinkingExplorer\n"
    show += "explorer = ThinkingExplorer(lab, question='7+2*3-1*7+3+1*3-2=?', budget=64)\nexplorer"
    write_book(folder / "thinking.ipynb", slow, show)
    with opened(tabs, server, "thinking.ipynb") as book:
        book.command("application:toggle-left-area")
        book.command("notebook:run-all-cells")
        page = book.page
        page.wait_for_function(
            "() => Number(document.querySelector('.q3-transcript')?.dataset.tokens) > 6"
        )
        page.locator(".q3-explorer").screenshot(path=screenshots / "thinking_runs.png")
        page.get_by_role("button", name="Stop thinking now").click()
        expect(page.locator(".q3-note")).to_contain_text("You stopped the thinking")
        expect(page.locator(".q3-chip.q3-forced").first).to_be_visible()
        expect(page.locator(".q3-answer .q3-chip").first).to_be_visible()
        along = book.card("If it had stopped here")
        expect(along.locator(".q3-steps")).to_contain_text("before any thinking", timeout=60_000)
        expect(book.card("Side by side")).to_contain_text("without thinking", timeout=60_000)
        kept = along.locator(".q3-said")
        before = kept.inner_text()
        handle = along.locator(".noUi-handle")
        handle.focus()
        handle.press("ArrowLeft")
        expect(kept).not_to_have_text(before)
        expect(kept).to_contain_text(re.compile(r"After \d+ thinking tokens it would answer ."))
        page.locator(".q3-explorer").screenshot(path=screenshots / "thinking.png")
        assert book.left == [] and book.problems == []


def test_the_attention_explorer_is_hovered_clicked_and_zoomed(
    tabs: BrowserContext, server: Server, folder: Path, screenshots: Path
) -> None:
    show = "from qwen3lab.widgets import AttentionExplorer\n"
    show += "chat = lab.chat('7+2*3-1*7+3=?', seed=0, record=True)\n"
    show += "AttentionExplorer(chat.recording)"
    write_book(folder / "attention.ipynb", LOAD, show)
    with opened(tabs, server, "attention.ipynb") as book:
        book.command("application:toggle-left-area")
        book.command("notebook:run-all-cells")
        page = book.page
        book.card("Map").locator(".q3-map[data-drawn]").wait_for()
        # A thumbnail, with the mouse: the first head of the first layer.
        wall = book.card("Every head").locator(".q3-overlay")
        wall.scroll_into_view_if_needed()
        wall.click(position={"x": 60, "y": 20})
        book.wait_for_title("Map", "Attention of layer 0, head 0")
        # A token of the text, by pointing at it.
        words = page.locator(".q3-word")
        words.nth(9).hover()
        expect(page.locator(".q3-text[data-shaded='9']")).to_be_attached()
        expect(page.locator(".q3-word-here")).to_have_count(1)
        shades = words.evaluate_all(
            "all => all.map(word => Number(word.style.getPropertyValue('--q3-weight')))"
        )
        assert max(shades[:10]) > 0 and max(shades[10:]) == 0
        # A part of the map, dragged out, and back again.
        overlay = book.card("Map").locator(".q3-overlay")
        overlay.scroll_into_view_if_needed()
        box = overlay.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.4 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.6 * box["height"], steps=4)
        page.mouse.up()
        book.wait_for_title("Map", "Attention of layer 0, head 0, a part")
        page.locator(".q3-explorer").screenshot(path=screenshots / "attention_part.png")
        page.get_by_role("button", name="Whole map").click()
        book.wait_for_title("Map", "Attention of layer 0, head 0")
        # The table of heads: sorted by a score, its first row opened.
        table = book.card("Every head").locator(".q3-table")
        column = table.locator(".dt-scroll-head th", has_text="induction")
        for order in ("ascending", "descending"):
            column.get_by_role("button").click()
            expect(column).to_have_attribute("aria-sort", order)
        scores = [float(text) for text in table.locator("tbody td:nth-child(6)").all_inner_texts()]
        assert len(scores) > 5 and scores == sorted(scores, reverse=True)
        row = table.locator("tbody tr").first
        layer, head = row.locator("td").all_inner_texts()[:2]
        row.click()
        book.wait_for_title("Map", f"Attention of layer {layer}, head {head}")
        expect(book.card("Map")).to_contain_text("Likely a")
        page.locator(".q3-explorer").screenshot(path=screenshots / "attention.png")
        assert book.left == [] and book.problems == []
