"""The JavaScript of each widget in a real browser, with a fake of the Python model."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from playwright.sync_api import Page, expect

from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.heatmap import Axis, Heatmap, payload
from qwen3lab.widgets.components.layout import STYLE
from qwen3lab.widgets.components.number_picker import NumberPicker
from qwen3lab.widgets.components.plot import Plot
from qwen3lab.widgets.components.textview import TextView
from qwen3lab.widgets.components.thoughts import Thought, Thoughts
from qwen3lab.widgets.components.transcript import Transcript
from tests.exercises.test_verdicts import luminance
from tests.notebooks.browser import browser

pytestmark = pytest.mark.browser

RENDER = """
async ([code, style, traits]) => {
  document.body.innerHTML = `<style>${style}</style><div id="widget" style="width: 600px"></div>
    <div style="height: 4000px"></div>`;
  const bytes = (value) => new DataView(new Uint8Array(value).buffer);
  const { map } = traits;
  if (map) Object.assign(map, { cells: bytes(map.cells), palette: bytes(map.palette) });
  if (traits.shades) traits.values = bytes(traits.values);
  const heard = {};
  globalThis.hear = (event, ...values) => heard[event]?.forEach((handler) => handler(...values));
  globalThis.saved = [];
  globalThis.sent = [];
  globalThis.strokes = [];
  CanvasRenderingContext2D.prototype.strokeRect = function (...box) {
    strokes.push({ box, dashed: this.getLineDash().length > 0 });
  };
  globalThis.model = {
    get: (name) => traits[name],
    set: (name, value) => (traits[name] = value),
    tell: (name, value) => { traits[name] = value; globalThis.hear(`change:${name}`); },
    on: (event, handler) => (heard[event] = [...(heard[event] ?? []), handler]),
    off: () => {},
    save_changes: () => saved.push({ ...traits }),
    send: (content) => sent.push(content),
  };
  const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const widget = (await import(url)).default();
  widget.initialize?.({ model });
  widget.render({ model, el: document.getElementById("widget") });
}
"""

NEXT_FRAME = "() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium"), width=900, height=700) as tabs:
        yield tabs.new_page()


def render(page: Page, kind: type, **traits: Any) -> None:
    """Render a widget with these traits; the other traits have their defaults."""
    defaults = {name: trait.default() for name, trait in kind.class_traits(sync=True).items()}
    plain = {name: value for name, value in defaults.items() if isinstance(value, int | list)}
    plain |= {"values": [], "shades": defaults["shades"]} if kind is TextView else {}
    page.goto("about:blank")
    page.evaluate(RENDER, [str(kind._esm), STYLE, {**plain, **traits}])
    page.evaluate(NEXT_FRAME)


def strokes(page: Page) -> list[dict[str, Any]]:
    """The frames that canvases have drawn, those of the next frame of the page included."""
    page.evaluate(NEXT_FRAME)
    return page.evaluate("strokes")


def sent(rows: int, columns: int) -> Mapping[str, Any]:
    """The message of a map, with its bytes as lists of numbers."""
    sides = [Axis(name, name, ("",) * n) for name, n in (("row", rows), ("column", columns))]
    found = payload(Heatmap("This minus that", torch.rand(rows, columns), *sides, "weight"))
    return {name: list(v) if isinstance(v, bytes) else v for name, v in found.items()}


def test_a_frame_is_drawn_around_its_cells_in_a_pooled_map(page: Page) -> None:
    # 2,000 rows are pooled in pairs: rows 1,800 and 1,801 are pooled row 900.
    framed = [1800, 0, 1801, 3]
    render(page, Canvas, map=sent(2000, 4), framed=framed, marked=[1800, -1])
    band, frame = [stroke["box"] for stroke in strokes(page)[-2:]]
    assert frame == pytest.approx(band)
    assert frame[1] == pytest.approx(6 + 900 * frame[3])


def test_a_map_shows_its_title_and_has_a_label_with_its_keys(page: Page) -> None:
    render(page, Canvas, map=sent(4, 4), zooms=True)
    expect(page.get_by_text("This minus that")).to_be_visible()
    label = page.locator(".q3-overlay").get_attribute("aria-label") or ""
    assert all(key in label for key in ("This minus that", "Enter", "+ zooms", "- shows"))
    render(page, Canvas, map=sent(4, 4))
    assert "zooms" not in (page.locator(".q3-overlay").get_attribute("aria-label") or "")


def test_a_frame_that_moves_is_drawn_without_the_cells(page: Page) -> None:
    render(page, Canvas, map=sent(4, 4), framed=[0, 0, 1, 1])
    drawn = page.locator(".q3-map").get_attribute("data-drawn")
    before = len(strokes(page))
    page.evaluate("model.tell('framed', [2, 2, 3, 3])")
    assert len(strokes(page)) == before + 1
    assert page.locator(".q3-map").get_attribute("data-drawn") == drawn
    page.evaluate("model.tell('map', { ...model.get('map'), title: 'Another' })")
    page.evaluate(NEXT_FRAME)
    assert page.locator(".q3-map").get_attribute("data-drawn") != drawn


def test_a_map_of_another_size_of_its_place_is_drawn_anew(page: Page) -> None:
    render(page, Canvas, map=sent(4, 4))
    before = page.locator(".q3-canvas").bounding_box()
    page.evaluate("document.getElementById('widget').style.width = '300px'")
    page.evaluate(NEXT_FRAME)
    after = page.locator(".q3-canvas").bounding_box()
    assert before is not None and after is not None
    assert (before["width"], after["width"]) == (600, 300)


def test_a_caption_stands_below_its_map_as_text(page: Page) -> None:
    render(page, Canvas, map=sent(4, 4), caption="of <b>one</b>\nhead")
    caption = page.locator(".q3-caption")
    expect(caption).to_have_text("of <b>one</b> head")
    under, above = caption.bounding_box(), page.locator(".q3-canvas").bounding_box()
    assert under is not None and above is not None
    assert under["y"] >= above["y"] + above["height"]
    assert under["height"] > 30, "two lines"
    page.evaluate("model.tell('caption', '')")
    expect(caption).to_be_hidden()


def test_a_drag_that_ends_outside_the_map_removes_its_frame(page: Page) -> None:
    render(page, Canvas, map=sent(8, 8), zooms=True)
    box = page.locator(".q3-overlay").bounding_box()
    assert box is not None
    x, y = box["x"] + 80, box["y"] + 40
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 90, y + 90)
    assert any(stroke["dashed"] for stroke in strokes(page))
    page.mouse.move(x, 690)
    page.mouse.up()
    page.evaluate("strokes.length = 0")
    page.mouse.move(x + 60, y + 60)
    found = strokes(page)
    assert found and not any(stroke["dashed"] for stroke in found)


def test_a_picked_token_scrolls_the_conversation_but_not_the_page(page: Page) -> None:
    chips = [[f"word{n} ", f"word{n} ", "answer", "", ""] for n in range(600)]
    reply = {"run": 1, "question": "?", "chips": chips}
    render(page, Transcript, reply=reply, progress={})
    page.evaluate("document.querySelector('.q3-transcript').style.height = '300px'")
    page.evaluate("window.scrollTo(0, 500)")
    for token in (590, 3):
        page.evaluate("token => model.tell('marked', token)", token)
        inside = page.locator(".q3-picked").bounding_box()
        around = page.locator(".q3-scroll").bounding_box()
        assert inside is not None and around is not None
        assert around["y"] - 1 <= inside["y"]
        assert inside["y"] + inside["height"] <= around["y"] + around["height"] + 1
        assert page.evaluate("window.scrollY") == 500


def test_of_a_long_reply_only_the_tokens_near_the_window_are_on_the_page(page: Page) -> None:
    texts = [f" w{n}" if n % 40 else "\n" for n in range(16_000)]
    chips = [[text, text, "thinking", "", ""] for text in texts]
    render(page, Transcript, reply={"run": 1, "question": "?", "chips": chips}, progress={})
    page.evaluate("document.querySelector('.q3-transcript').style.height = '300px'")
    expect(page.locator(".q3-transcript")).to_have_attribute("data-tokens", "16000")
    nodes = "document.querySelectorAll('.q3-transcript *').length"
    page.wait_for_function(f"() => {nodes} < 3000")
    for token in (15_990, 8_001, 3):
        page.evaluate("token => model.tell('marked', token)", token)
        expect(page.locator(".q3-picked")).to_have_text(f"w{token}")
        inside = page.locator(".q3-picked").bounding_box()
        around = page.locator(".q3-scroll").bounding_box()
        assert inside is not None and around is not None
        assert around["y"] - 1 <= inside["y"] <= around["y"] + around["height"]
        page.wait_for_function(f"() => {nodes} < 3000")
    page.locator(".q3-scroll").press("ArrowRight")
    assert page.evaluate("model.get('selected')") == 4


def test_a_reply_of_usual_length_is_on_the_page_as_a_whole(page: Page) -> None:
    chips = [[f" w{n}", f" w{n}", "answer", "", ""] for n in range(1_000)]
    render(page, Transcript, reply={"run": 1, "question": "?", "chips": chips}, progress={})
    page.evaluate("document.querySelector('.q3-transcript').style.height = '300px'")
    expect(page.locator(".q3-chip")).to_have_count(1_000)


def test_a_number_is_picked_by_slider_field_and_buttons(page: Page) -> None:
    picker = NumberPicker("layer", (1, 3, 7), "Layer with experts")
    traits = {"name": picker.name, "values": picker.values, "value": 1, "hints": picker.hints}
    render(page, NumberPicker, **traits)
    slider, field = page.get_by_role("slider"), page.get_by_role("spinbutton")
    earlier = page.get_by_role("button", name="Previous layer")
    later = page.get_by_role("button", name="Next layer")

    def shown() -> tuple[int, str, str]:
        picked = page.evaluate("model.get('value')")
        return picked, field.input_value(), slider.get_attribute("aria-valuetext") or ""

    expect(earlier).to_be_disabled()
    later.click()
    assert shown() == (3, "3", "3")
    slider.press("ArrowRight")
    assert shown() == (7, "7", "7")
    expect(later).to_be_disabled()
    for typed, picked in (("2", 1), ("2", 3), ("99", 7), ("", 7)):  # In the direction of the step.
        field.fill(typed)
        field.press("Enter")
        assert shown() == (picked, str(picked), str(picked))
    page.evaluate("model.tell('value', 1)")
    assert shown() == (1, "1", "1")


def test_a_pick_stays_outlined_after_its_reset_and_can_be_repeated(page: Page) -> None:
    reply = {"run": 1, "question": "?", "chips": [[t, t, "answer", "", ""] for t in "abc"]}
    render(page, Transcript, reply=reply, progress={})
    page.locator(".q3-scroll").press("ArrowRight")
    assert page.evaluate("model.get('selected')") == 0
    page.evaluate("model.tell('marked', 0)")
    page.evaluate("model.tell('selected', -1)")
    expect(page.locator(".q3-picked")).to_have_text("a")
    page.locator(".q3-chip").first.click()
    assert page.evaluate("model.get('selected')") == 0


def test_coloured_text_has_enough_contrast_and_cut_text_is_struck_through(page: Page) -> None:
    render(page, Transcript, reply={"run": 1, "question": "", "chips": []}, progress={})
    page.evaluate("document.body.innerHTML += '<div class=\"q3 q3-step\"><s>late</s></div>'")
    colour = "part => getComputedStyle(part).color.match(/[0-9.]+/g).map(Number)"
    for title in page.locator(".q3-part-title").all():
        assert 1.05 / (luminance(title.evaluate(colour)[:3]) + 0.05) >= 4.5
    cut = page.locator(".q3-step s")
    assert 1.05 / (luminance([v / 255 for v in cut.evaluate(colour)]) + 0.05) >= 4.5
    assert cut.evaluate("s => getComputedStyle(s).opacity") == "1"
    expect(cut).to_have_css("text-decoration-line", "line-through")


TEXT = {"first": 4, "tokens": [["a", "prompt", False], ["b", "thinking", False]]}


def test_the_text_has_a_legend_of_its_colours(page: Page) -> None:
    render(page, TextView, text=TEXT)
    expect(page.locator(".q3-key")).to_have_text(["thinking"])


def test_the_text_is_shaded_by_values_with_a_scale_and_says_them(page: Page) -> None:
    values = list(torch.tensor([torch.nan, 1.5]).numpy().tobytes())
    shades = {"title": "entropy (nats)", "high": 3.0, "nothing": "prompt", "follows": False}
    render(page, TextView, text=TEXT, values=values, shades=shades, picked=-1)
    weight = "word => word.style.getPropertyValue('--q3-weight')"
    assert page.locator(".q3-word").evaluate_all(f"all => all.map({weight})") == ["0.000", "0.500"]
    expect(page.locator(".q3-scale")).to_contain_text("3  entropy (nats)")
    expect(page.locator(".q3-nothing-note")).to_have_text("unshaded: prompt")
    page.locator(".q3-word").nth(1).hover()
    expect(page.locator(".q3-readout")).to_have_text("5 “b”: 1.5")
    page.locator(".q3-word").first.click()
    assert page.evaluate("saved.at(-1).picked") == 4
    expect(page.locator(".q3-word-here")).to_have_text("a")
    page.locator(".q3-text").press("ArrowRight")
    assert page.evaluate("saved.at(-1).picked") == 5
    assert page.evaluate("saved.map(({ token }) => token)") == [-1, -1], "hovering asks for nothing"


@pytest.mark.parametrize(
    ("kind", "low", "expected"), [("square root", 0.0, "0.500"), ("logarithm", 0.01, "0.699")]
)
def test_the_text_is_shaded_on_a_chosen_scale_that_the_legend_names(
    page: Page, kind: str, low: float, expected: str
) -> None:
    values = list(torch.tensor([torch.nan, 0.25]).numpy().tobytes())
    shades = {"title": "weight", "high": 1.0, "nothing": "", "follows": False, "low": low}
    shades |= {"kind": kind, "note": f"{kind}, clipped at the 99% quantile", "clipped": True}
    render(page, TextView, text=TEXT, values=values, shades=shades, picked=-1)
    weight = "word => word.style.getPropertyValue('--q3-weight')"
    assert page.locator(".q3-word").nth(1).evaluate(weight) == expected
    scale = page.locator(".q3-scale")
    expect(scale).to_contain_text(f"≥ 1  weight; {kind}, clipped at the 99% quantile")
    expect(scale.locator("span").first).to_have_text(f"{low:g}")


def test_pointing_at_a_token_asks_for_its_values_if_the_shades_follow_it(page: Page) -> None:
    values = list(torch.tensor([0.25, 0.75]).numpy().tobytes())
    shades = {"title": "attention", "high": 1.0, "nothing": "", "follows": True}
    render(page, TextView, text=TEXT, values=values, shades=shades, shaded=5, picked=5)
    expect(page.locator(".q3-readout")).to_have_text(
        "token 5 “b”: 0.75 · largest: 5 “b”: 0.75, 4 “a”: 0.25"
    )
    page.locator(".q3-word").first.hover()
    page.wait_for_function("saved.at(-1)?.token === 4")
    page.mouse.move(5, 600)
    page.wait_for_function("saved.at(-1)?.token === -1")


def test_a_map_fills_its_place_and_scrolls_if_that_is_too_low(page: Page) -> None:
    for place, least, is_scrolled in ((400, 100, False), (150, 300, True)):
        render(page, Canvas, map=sent(40, 40), height=least, fills=True)
        style = f"width: 600px; height: {place}px; display: flex; flex-direction: column"
        page.evaluate(
            """style => {
              const el = document.getElementById("widget");
              el.setAttribute("style", style);
              el.parentElement.classList.add("q3-pane");
              el.classList.add("q3-fill");
            }""",
            style,
        )
        stage = page.locator(".q3-stage")
        page.wait_for_function("document.querySelector('.q3-stage').clientHeight < 400")
        page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))"
        )
        height = stage.evaluate("stage => stage.clientHeight")
        drawn = page.locator(".q3-canvas").evaluate("canvas => canvas.clientHeight")
        assert height < place
        assert drawn == pytest.approx(max(height, least), abs=45)  # Whole cells.
        assert stage.evaluate("stage => stage.scrollHeight > stage.clientHeight") is is_scrolled


def test_a_plot_is_an_image_with_an_accessible_name(page: Page) -> None:
    figure = (
        '{"data": [], "layout": {"height": 99, "yaxis": {"title": {"text": "entropy (nats)"}}}}'
    )
    render(page, Plot, figure=figure, version="1", is_sent=False)
    expect(page.get_by_role("img", name="Plot: entropy (nats)")).to_be_attached()


LONG = "change of logit “7” - logit “bridge” (logits)"


@pytest.mark.parametrize(
    ("rows", "title", "legend"),
    [
        (6, LONG, f"colours: {LONG}"),
        (6, "share", ""),
        (40, "change of the logit", ""),
        (2, "share", ""),
    ],
)
def test_the_legend_names_the_colours_if_the_bar_is_too_short_for_it(
    page: Page, rows: int, title: str, legend: str
) -> None:
    render(page, Canvas, map={**sent(rows, 30), "valueTitle": title}, height=400)
    expect(page.locator(".q3-legend")).to_have_text(legend)


def test_the_legend_says_what_a_cell_without_a_value_is_if_there_is_one(page: Page) -> None:
    sides = [Axis(name, name, ("",) * 2) for name in ("row", "column")]
    values = torch.tensor([[0.0, 1.0], [0.5, torch.nan]])
    for values_shown, legend in ((values, ["not run"]), (values.nan_to_num(), [])):
        plain = payload(Heatmap("A map", values_shown, *sides, "w", nothing="not run"))
        found = {name: list(v) if isinstance(v, bytes) else v for name, v in plain.items()}
        render(page, Canvas, map=found)
        expect(page.locator(".q3-key-nothing")).to_have_text(legend)


def test_a_clipped_square_root_scale_is_named_and_its_levels_are_values(page: Page) -> None:
    values = torch.full((100, 100), 0.001)
    values[:, ::10], values[0] = 0.02, 1.0  # 1 of 100 rows is far above the others
    values[0, 5:] = 0.001
    sides = [Axis(name, name, ("",) * 100) for name in ("row", "c")]
    heatmap = Heatmap("Sunk", values, *sides, "w")
    plain = payload(replace(heatmap, adapts=True))
    found = {name: list(v) if isinstance(v, bytes) else v for name, v in plain.items()}
    render(page, Canvas, map=found)
    expect(page.locator(".q3-legend")).to_contain_text("colours: square root, clipped at the 99.5%")
    page.locator(".q3-overlay").focus()
    page.keyboard.press("ArrowDown")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    # Row 1, column 10: the value is 0.02, the last colour.
    expect(page.locator(".q3-readout")).to_have_text("row 1 → c 10: w ≈ 0.02")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".q3-readout")).to_have_text("row 1 → c 11: w ≈ 0.001")


def test_new_tokens_are_appended_and_missing_ones_are_asked_for(page: Page) -> None:
    def row(text: str) -> list[str]:
        return [text, text, "thinking", "", ""]

    def tell(first: int, *texts: str, run: int = 1) -> None:
        message = {"kind": "chips", "run": run, "question": "Hi", "first": first}
        page.evaluate("m => hear('msg:custom', m)", {**message, "chips": [*map(row, texts)]})

    chips = page.locator(".q3-chip")
    render(page, Transcript, reply={"run": 0, "question": "", "chips": []}, progress={})
    assert page.evaluate("sent") == [{"kind": "have", "run": 0, "tokens": 0}]
    tell(0, "a", " b")
    chips.first.evaluate("chip => { chip.dataset.kept = 'yes'; }")
    tell(2, " c")
    expect(chips).to_have_text(["a", "b", "c"])
    assert chips.first.get_attribute("data-kept") == "yes"  # Earlier tokens are not drawn again.
    tell(9, " z")
    expect(chips).to_have_count(3)
    assert page.evaluate("sent.at(-1)") == {"kind": "have", "run": 1, "tokens": 3}
    tell(1, " b", " c", " d")
    expect(chips).to_have_text(["a", "b", "c", "d"])
    tell(0, "e", run=2)
    expect(chips).to_have_text(["e"])
    assert page.evaluate("saved") == []  # Nothing of it goes back to Python.


def test_the_tokens_of_a_word_stay_on_one_line(page: Page) -> None:
    word = ["In", "comprehens", "ib", "ilities"]
    texts = [text for _ in range(40) for text in (" so", *(f" {word[0]}", *word[1:]))]
    chips = [[text, text, "answer", "", ""] for text in texts]
    render(page, Transcript, reply={"run": 1, "question": "", "chips": chips}, progress={})
    tops = page.locator(".q3-chip").evaluate_all(
        "all => all.map(c => c.getBoundingClientRect().top)"
    )
    assert len(set(tops)) > 3
    for start in range(0, len(tops), 5):
        assert len(set(tops[start + 1 : start + 5])) == 1


def long_thinking() -> dict[str, Any]:
    """40 paragraphs of four sentences of twelve tokens: 1,920 tokens."""
    thoughts = []
    for step in range(160):
        end = ".\n\n" if step % 4 == 3 else ". "
        tokens = [f"step{step}", *[" word"] * 10, end]
        thoughts.append(Thought(tokens, range(12 * step + 1, 12 * step + 13)))
    widget = Thoughts()
    widget.show(thoughts)
    return widget.thinking


def test_a_long_thinking_is_walked_by_keys_with_the_marker_in_view(page: Page) -> None:
    answers = {"600": ["sixteen", False], "1920": ["twenty-four", True]}
    render(page, Thoughts, thinking=long_thinking(), answers=answers, marker=613)
    page.evaluate("window.scrollTo(0, 30)")
    around, place = page.locator(".q3-thought-list"), page.locator(".q3-place")
    here, folds = page.locator(".q3-here"), page.locator(".q3-fold[aria-expanded=true]")

    def is_in_view() -> bool:
        inside, box = here.bounding_box(), around.bounding_box()
        assert inside is not None and box is not None
        return box["y"] - 1 <= inside["y"] < box["y"] + box["height"]

    expect(place).to_have_text("token 613 of 1,920 · sentence 52 of 160")
    expect(folds).to_have_count(3)
    expect(page.locator(".q3-step:visible")).to_have_count(1 + 12)
    expect(page.locator(".q3-tick")).to_have_count(2)
    for key, token in (
        ("ArrowDown", "624"),
        ("ArrowDown", "636"),
        ("ArrowUp", "624"),
        ("ArrowRight", "625"),
        ("ArrowLeft", "624"),
        ("PageUp", "576"),
        ("PageDown", "624"),
        ("Home", "0"),
        ("End", "1,920"),
    ):
        around.press(key)
        expect(place).to_contain_text(f"token {token} of 1,920")
        expect(here).to_have_count(1)
        assert is_in_view(), key
    page.wait_for_function("saved.at(-1)?.picked === 1920")
    press = """keys => {
      saved.length = 0;
      const press = (key) => new KeyboardEvent("keydown", { key, bubbles: true });
      for (const key of keys) document.activeElement.dispatchEvent(press(key));
    }"""
    page.evaluate(press, ["Home", "ArrowDown", "ArrowDown", "End"])
    page.wait_for_function("saved.length > 0")
    assert page.evaluate("saved.map(({ picked }) => picked)") == [1920]  # Once, after a pause.
    expect(here).to_contain_text("twenty-four ✓")
    around.evaluate("list => { list.scrollTop = 0; }")
    assert is_in_view()
    assert page.evaluate("window.scrollY") == 30


def test_paragraphs_of_a_thinking_fold_and_a_click_moves_the_marker(page: Page) -> None:
    render(page, Thoughts, thinking=long_thinking(), answers={}, marker=1920)
    first = page.locator(".q3-fold").first
    first.click()
    expect(first).to_have_attribute("aria-expanded", "true")
    page.locator(".q3-step[data-kept='36']").click()
    assert page.evaluate("saved.at(-1).picked") == 36
    expect(page.locator(".q3-place")).to_have_text("token 36 of 1,920 · sentence 3 of 160")
    page.evaluate("model.tell('asking', 36)")
    expect(page.locator(".q3-here")).to_contain_text("asking …")
    expect(page.locator(".q3-step[data-kept='48']")).to_have_class("q3-step q3-after")
    page.evaluate("model.tell('marker', 30)")
    expect(page.locator(".q3-here s")).to_have_text("word word word word word.")
    first.click()
    expect(page.locator(".q3-step[data-kept='24']")).to_be_hidden()
    expect(page.locator(".q3-here")).to_be_visible()
