"""Routing, thinking and attention explorers in a real browser, offline, by mouse and keyboard."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.notebooks.books import write_book
from tests.notebooks.browser import opened
from tests.notebooks.jupyter_server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LOAD = "import qwen3lab\nlab = qwen3lab.load('tiny-moe')"


def test_the_routing_explorer_picks_a_token_and_an_expert_and_switches_it_off(
    tabs: BrowserContext, server: Server, folder: Path, screenshots: Path
) -> None:
    show = "from qwen3lab.widgets import RoutingExplorer\nRoutingExplorer(lab, question='7+2*3=?')"
    write_book(folder / "routing.ipynb", LOAD, show)
    with opened(tabs, server, "routing.ipynb") as book:
        book.command("application:toggle-left-area")
        book.command("notebook:run-all-cells")
        book.card("Expert routing").locator(".q3-map[data-drawn]").wait_for()
        # Pick a token with the mouse, and one of its experts with the keyboard.
        book.page.locator(".q3-answer .q3-chip").first.click()
        token = book.card("Selected token")
        token.locator(".q3-map[data-drawn]").wait_for()
        expect(token.locator(".q3-caption")).to_contain_text("router entropy")
        overlay = book.card("Expert routing").locator(".q3-overlay")
        overlay.focus()
        for key in ("ArrowRight", "ArrowDown", "Enter"):
            overlay.press(key)
        expert = book.card("Selected expert")
        expect(expert).to_contain_text(re.compile(r"Expert \d+ of layer \d+: \d+ of \d+ tokens"))
        expert.get_by_role("button", name="Direct logit effect").click()
        expect(expert).to_contain_text("raises")
        expert.get_by_role("button", name="Switch off and ask again").click()
        expect(expert).to_contain_text("without the changes")
        expect(expert).to_contain_text(re.compile(r"expert \d+\.\d+ off"))
        book.wait_for_title("Load", "Load: this run minus the run without the changes")
        expect(expert.get_by_role("button", name="Switch on and ask again")).to_be_enabled()
        book.page.locator(".q3-explorer").screenshot(path=screenshots / "routing.png")
        assert book.external_requests == [] and book.page_errors == []


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
        # Pick the last expert of another layer with the keyboard.
        overlay = book.card("Load").locator(".q3-overlay")
        overlay.focus()
        for key in ("ArrowDown", "End", "Enter"):
            overlay.press(key)
        readout = book.card("Load").locator(".q3-readout")
        expect(readout).to_have_text(re.compile(r"layer \d+ → expert 127: "))
        expect(book.card("Selected expert")).to_contain_text(re.compile(r"Expert 127 of layer \d+"))
        book.page.locator(".q3-chip").first.click()
        book.card("Selected token").locator(".q3-map[data-drawn]").wait_for()
        book.page.locator(".q3-explorer").screenshot(path=screenshots / "deep.png")
        assert book.external_requests == [] and book.page_errors == []


def test_the_thinking_explorer_is_stopped_during_thinking_and_shows_early_answers(
    tabs: BrowserContext, server: Server, folder: Path, screenshots: Path
) -> None:
    """The delay gives the speed of a large model, so that the click comes during thinking."""
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
        early_answers = book.card("Early answers")
        expect(early_answers.locator(".q3-thought-list")).to_contain_text(
            "no tokens kept", timeout=60_000
        )
        expect(book.card("Replies")).to_contain_text("without thinking", timeout=60_000)
        answer = book.card("At the marker").locator(".q3-said")
        before = answer.inner_text()
        handle = early_answers.locator(".noUi-handle")
        handle.focus()
        handle.press("ArrowLeft")
        expect(answer).not_to_have_text(before)
        expect(answer).to_contain_text(re.compile(r"Answer after \d+ of \d+ thinking tokens: [✓✗]"))
        page.locator(".q3-explorer").screenshot(path=screenshots / "thinking.png")
        assert book.external_requests == [] and book.page_errors == []


def test_the_attention_explorer_answers_to_hover_click_and_drag(
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
        book.card("Attention map").locator(".q3-map[data-drawn]").wait_for()
        # Click the thumbnail of the first head of the first layer.
        wall = book.card("All heads").locator(".q3-overlay:visible")
        wall.scroll_into_view_if_needed()
        wall.click(position={"x": 60, "y": 20})
        book.wait_for_title("Attention map", "Attention of layer 0, head 0")
        # Pick a token of the text, and point at another one.
        book.open_tab("Text")
        page.get_by_label("shade by").select_option("attention from the picked token")
        words = page.locator(".q3-word")
        words.nth(12).click()
        page.mouse.move(1, 1)  # The page may scroll at a click: another token is under the pointer.
        expect(page.locator(".q3-text[data-shaded='12']")).to_be_attached()
        words.nth(9).hover()
        expect(page.locator(".q3-text[data-shaded='9']")).to_be_attached()
        expect(page.locator(".q3-word-here")).to_have_count(1)
        shades = words.evaluate_all(
            "all => all.map(word => Number(word.style.getPropertyValue('--q3-weight')))"
        )
        assert max(shades[:10]) > 0 and max(shades[10:]) == 0
        book.open_tab("Attention")
        # Drag over a part of the map, then show the whole map again.
        overlay = book.card("Attention map").locator(".q3-overlay")
        overlay.scroll_into_view_if_needed()
        box = overlay.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.4 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.6 * box["height"], steps=4)
        page.mouse.up()
        book.wait_for_title("Attention map", "Attention of layer 0, head 0 (part)")
        page.locator(".q3-explorer").screenshot(path=screenshots / "attention_part.png")
        page.get_by_role("button", name="Whole map").click()
        book.wait_for_title("Attention map", "Attention of layer 0, head 0")
        # Sort the table of heads by a score, and open its first row.
        page.get_by_role("button", name="table").click()
        table = book.card("All heads").locator(".q3-table")
        column = table.locator(".dt-scroll-head th", has_text="induction")
        for order in ("ascending", "descending"):
            column.get_by_role("button").click()
            expect(column).to_have_attribute("aria-sort", order)
        scores = [float(text) for text in table.locator("tbody td:nth-child(6)").all_inner_texts()]
        assert len(scores) > 5 and scores == sorted(scores, reverse=True)
        row = table.locator("tbody tr").first
        layer, head = row.locator("td").all_inner_texts()[:2]
        row.click()
        book.wait_for_title("Attention map", f"Attention of layer {layer}, head {head}")
        expect(book.card("Attention map")).to_contain_text("Likely kind")
        page.locator(".q3-explorer").screenshot(path=screenshots / "attention.png")
        assert book.external_requests == [] and book.page_errors == []


def test_the_why_explorer_picks_a_part_and_asks_again_without_it(
    tabs: BrowserContext, server: Server, folder: Path, screenshots: Path
) -> None:
    question = "lamp 2, book 7, cat 1. book?"
    show = "from qwen3lab.widgets import WhyExplorer\n"
    show += f"explorer = WhyExplorer(lab, question={question!r}, thinking=False)\nexplorer"
    write_book(folder / "why.ipynb", LOAD, show)
    with opened(tabs, server, "why.ipynb") as book:
        book.command("application:toggle-left-area")
        book.command("notebook:run-all-cells")
        lens = book.card("Which layer knew it")
        lens.locator(".q3-map[data-drawn]").wait_for()
        expect(lens.locator(".q3-notes")).to_contain_text("it leads first after layer")
        effects = book.card("What it needs")
        effects.locator(".q3-map[data-drawn]").wait_for()
        part = book.card("Picked part")
        expect(part).to_contain_text("Click a bar")
        overlay = effects.locator(".q3-overlay")
        overlay.focus()
        for key in ("ArrowRight", "ArrowDown", "Enter"):
            overlay.press(key)
        expect(part).to_contain_text(re.compile(r"head \d\.\d"))
        part.locator(".q3-map[data-drawn]").wait_for()
        part.get_by_role("button", name="Take away, ask again").click()
        expect(part).to_contain_text("as it is")
        expect(part).to_contain_text(re.compile(r"without head \d\.\d"))
        part.get_by_role("button", name="Steer, ask again").click()
        expect(part).to_contain_text("steered towards")
        # A bar of the waterfall picks its part; the head's own explorer shows the same reply.
        bars = book.card("What wrote it").locator(".q3-figure .points .point")
        names = book.card("What wrote it").locator(".q3-figure .xtick text").all_text_contents()
        name = next(each for each in names if re.fullmatch(r"head \d\.\d", each))
        layer, head = name.removeprefix("head ").split(".")
        bars.nth(names.index(name)).click(force=True)
        expect(part.locator("b").first).to_have_text(name)
        book.page.locator(".q3-explorer").screenshot(path=screenshots / "why.png")
        part.get_by_role("button", name="Attention view").click()
        tab = book.page.get_by_role("tab", name="Attention", exact=True)
        expect(tab).to_have_attribute("aria-selected", "true")
        book.wait_for_title("Attention map", f"Attention of layer {layer}, head {head}")
        expect(book.page.locator(".q3-question")).to_have_text(question)
        assert book.external_requests == [] and book.page_errors == []


def test_the_atlas_explorer_shows_an_expert_and_goes_to_its_neighbour(
    tabs: BrowserContext, server: Server, folder: Path, screenshots: Path
) -> None:
    record = "import tempfile\nfrom qwen3lab import corpus, tiny\n"
    record += "rows = tiny.corpus_rows(lab.tokenizer, n=2)\nkept = {'keep': ('counts', 'top')}\n"
    record += "labels = {'label': 'family', 'token_label': 'role', 'progress': False}\n"
    record += "run = corpus.record(rows, model=lab, out=tempfile.mkdtemp(), **kept, **labels)"
    show = "from qwen3lab.widgets import AtlasExplorer\nAtlasExplorer(corpus.atlas(run))"
    write_book(folder / "atlas.ipynb", LOAD, record, show)
    with opened(tabs, server, "atlas.ipynb") as book:
        book.command("application:toggle-left-area")
        book.command("notebook:run-all-cells")
        book.card("Experts").locator(".q3-map[data-drawn]").wait_for(timeout=60_000)
        overlay = book.card("Experts").locator(".q3-overlay")
        overlay.focus()
        for key in ("ArrowDown", "End", "Enter"):
            overlay.press(key)
        about = book.card("What it does")
        expect(about).to_contain_text(re.compile(r"Layer \d, expert 15"))
        expect(about.locator("mark").first).to_be_visible()
        # In one step: the buttons of the expert before may still be there.
        said = about.get_by_role("button").first.evaluate(
            "button => { button.click(); return button.innerText; }"
        )
        place = re.fullmatch(r"layer (\d), expert (\d+) \(\d+%\)", said)
        assert place is not None
        expect(about).to_contain_text(f"Layer {place[1]}, expert {place[2]}")
        book.page.locator(".q3-explorer").screenshot(path=screenshots / "atlas.png")
        assert book.external_requests == [] and book.page_errors == []
