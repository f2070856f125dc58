"""The first notebook in a real browser, offline: run cells, move controls, stop a run."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import BrowserContext, expect

from tests.notebooks.books import mime_types, write_book
from tests.notebooks.browser import Book, opened
from tests.notebooks.conftest import START
from tests.notebooks.jupyter_server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def book(tabs: BrowserContext, server: Server):
    """The notebook in the browser, run from top to bottom."""
    with opened(tabs, server, START) as book:
        book.command("application:toggle-left-area")
        book.command("notebook:run-all-cells")
        expect(book.page.locator(".q3-note")).to_contain_text("Finished", timeout=60_000)
        book.page.locator(".q3-word").first.wait_for()
        yield book


def press(book: Book, slider: int, key: str) -> None:
    """Press a key on one of the sliders that are seen."""
    book.handle(slider).focus()
    book.handle(slider).press(key)


def numbers(title: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", title)]


def test_running_the_notebook_shows_a_reply_with_thinking_and_answer(
    book: Book, screenshots: Path
) -> None:
    expect(book.page.locator(".q3-thinking .q3-chip").first).to_be_visible()
    expect(book.page.locator(".q3-answer .q3-chip").first).to_be_visible()
    expect(book.page.locator(".q3-scale")).to_contain_text("surprisal (nats)")
    book.page.locator(".q3-explorer").scroll_into_view_if_needed()
    book.page.locator(".q3-explorer").screenshot(path=screenshots / "workbench.png")


def test_moving_layer_and_head_redraws_the_attention_map(book: Book, screenshots: Path) -> None:
    book.open_tab("Attention")
    book.card("Attention map").locator(".q3-map[data-drawn]").wait_for()
    layer, head = numbers(book.drawn("Attention map"))
    before = book.picture("Attention map")
    press(book, 0, "Home")
    book.wait_for_title("Attention map", f"Attention of layer 0, head {head}")
    press(book, 1, "ArrowRight")
    book.wait_for_title("Attention map", f"Attention of layer 0, head {head + 1}")
    assert layer != 0
    assert book.picture("Attention map") != before
    book.page.locator(".q3-explorer").screenshot(path=screenshots / "other_head.png")


def test_moving_the_routing_layer_redraws_the_routing_map(book: Book) -> None:
    book.open_tab("Routing")
    book.card("Expert routing").locator(".q3-map[data-drawn]").wait_for()
    (layer,), before = numbers(book.drawn("Expert routing")), book.picture("Expert routing")
    press(book, 0, "ArrowRight")
    book.wait_for_title("Expert routing", f"Expert routing in layer {layer + 1}")
    assert book.picture("Expert routing") != before


def test_hovering_shows_both_tokens_and_the_exact_weight(book: Book, screenshots: Path) -> None:
    book.open_tab("Attention")
    overlay = book.card("Attention map").locator(".q3-overlay")
    overlay.scroll_into_view_if_needed()
    box = overlay.bounding_box()
    assert box is not None
    overlay.hover(position={"x": 0.3 * box["width"], "y": 0.6 * box["height"]})
    tip = book.card("Attention map").locator(".q3-tip")
    expect(tip).to_be_visible()
    expect(tip).to_have_text(re.compile(r"query \d+ “.+”key \d+ “.+”attention weight \d\.\d{4}"))
    book.page.locator(".q3-explorer").screenshot(path=screenshots / "hover.png")


def test_arrow_keys_move_the_cell_and_enter_picks_its_token_in_all_panes(book: Book) -> None:
    book.open_tab("Routing")
    overlay = book.card("Expert routing").locator(".q3-overlay")
    overlay.focus()
    for key in ("ArrowRight", "ArrowDown", "End", "ArrowLeft", "Enter"):
        overlay.press(key)
    readout = book.card("Expert routing").locator(".q3-readout")
    expect(readout).to_have_text(
        re.compile(r"expert 1 → token \d+ “.+”: (routing weight|not chosen)")
    )
    expect(book.page.locator(".q3-chip.q3-picked")).to_have_count(1)
    expect(book.page.locator(".q3-token")).to_contain_text(
        re.compile(r"Token \d+ “.+”: probability")
    )


def test_clicking_the_entropy_plot_picks_the_token_and_keeps_the_zoom(book: Book) -> None:
    book.open_tab("Text")
    book.page.get_by_role("button", name="curves").click()
    plot = book.page.locator(".q3-view:visible .q3-figure")
    plot.locator(".scatterlayer path").first.wait_for(state="attached")
    drawn, x_range = plot.locator(".nsewdrag"), "plot => plot.layout.xaxis.range"
    marked = "() => document.querySelector('.q3-figure').layout.shapes.at(-1).x0"
    before = book.page.evaluate(marked)
    drawn.click(position={"x": 30, "y": 40})
    book.page.wait_for_function(f"({marked})() !== {before}")
    first, full_range = book.page.evaluate(marked), plot.evaluate(x_range)
    drawn.hover(position={"x": 100, "y": 60})
    box = drawn.bounding_box()
    assert box is not None
    book.page.mouse.down()
    book.page.mouse.move(box["x"] + 300, box["y"] + 60, steps=4)
    book.page.mouse.up()
    zoomed = plot.evaluate(x_range)
    assert full_range[0] < zoomed[0] < zoomed[1] < full_range[1]
    for x in (200, 220):  # plotly ignores the first click after a drag
        book.page.wait_for_timeout(500)  # and treats two quick clicks as a double click
        drawn.click(position={"x": x, "y": 40})
    book.page.wait_for_function(f"({marked})() !== {first}")
    assert plot.evaluate(x_range) == zoomed


def test_an_empty_question_shows_an_error_and_a_question_with_markup_is_text(
    book: Book, screenshots: Path
) -> None:
    question = book.page.locator(".q3-ask input[type=text]").first
    question.fill("   ")
    question.press("Enter")
    alert = book.page.locator(".q3-left [role=alert]")
    expect(alert).to_contain_text("the question is empty")
    question.fill("3 + 4 <script>alert(1)</script> = ?")
    question.press("Enter")
    expect(alert).to_have_count(0)
    expect(book.page.locator(".q3-question")).to_have_text("3 + 4 <script>alert(1)</script> = ?")
    # The model is not trained on such questions: the reply can be long.
    expect(book.page.locator(".q3-transcript.q3-running")).to_have_count(0, timeout=60_000)
    book.page.locator(".q3-explorer").screenshot(path=screenshots / "markup.png")


def test_no_request_left_the_machine_and_no_cell_wrote_to_stderr(book: Book, folder: Path) -> None:
    book.command("docmanager:save")
    kinds = mime_types(nbformat.read(folder / START, as_version=4))
    assert kinds.count("application/vnd.plotly.v1+json") == 5
    assert "stderr" not in kinds and "error" not in kinds
    assert book.external_requests == []
    assert book.page_errors == []


def test_jupyterlab_uses_the_settings_of_the_package(book: Book) -> None:
    settings = book.page.evaluate(
        """async () => {
          const manager = window.jupyterapp.serviceManager.settings;
          const kernels = await manager.fetch("@jupyterlab/apputils-extension:kernels-settings");
          return JSON.stringify(kernels.schema.properties.commsOverSubshells);
        }"""
    )
    assert json.loads(settings)["default"] == "disabled"


def test_stop_during_streaming_keeps_the_tokens_generated_so_far(
    tabs: BrowserContext, server: Server, folder: Path, dense_folder: Path, screenshots: Path
) -> None:
    """Random weights give a long reply; the delay gives the speed of a large model."""
    load = f"import time, qwen3lab\nlab = qwen3lab.load({str(dense_folder)!r})"
    load += "\nlab.model.register_forward_pre_hook(lambda *_: time.sleep(0.02))"
    show = "from qwen3lab.widgets import Explorer\nExplorer(lab, max_new_tokens=1900)"
    write_book(folder / "stop.ipynb", load, show)
    with opened(tabs, server, "stop.ipynb") as book:
        book.command("notebook:run-all-cells")
        book.page.wait_for_function(
            "() => Number(document.querySelector('.q3-transcript')?.dataset.tokens) > 20"
        )
        book.page.get_by_role("button", name="Stop").click()
        expect(book.page.locator(".q3-note")).to_contain_text("Stopped by you")
        n_tokens = int(book.page.locator(".q3-transcript").get_attribute("data-tokens") or 0)
        assert 20 < n_tokens < 1900
        expect(book.page.get_by_role("tab", name="Routing")).to_have_count(0)
        book.open_tab("Attention")
        book.card("Attention map").locator(".q3-map[data-drawn]").wait_for()
        book.page.locator(".q3-explorer").screenshot(path=screenshots / "stopped.png")
        assert book.external_requests == [] and book.page_errors == []


def test_a_reloaded_page_draws_the_explorer_again(book: Book) -> None:
    book.command("docmanager:save")
    book.page.reload()
    book.page.locator(".q3-view:visible .q3-figure .scatterlayer path").first.wait_for(
        state="attached"
    )
    book.open_tab("Attention")
    book.card("Attention map").locator(".q3-map[data-drawn]").wait_for()
    assert book.page_errors == []
