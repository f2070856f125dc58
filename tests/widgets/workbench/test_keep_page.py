"""The page of a view: its numbers, its size, what is refused, and that texts stay texts."""

import base64
import json
import re
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, expect

from qwen3lab.errors import RecordingError
from qwen3lab.widgets import Workbench
from tests.fake_lab import DENSE, MOE, FakeLab, record
from tests.notebooks.browser import browser

EVIL = "</script><img src=x onerror='window.pwned=1'>"
TOKENS = ["a", "b", EVIL, "<!--<script>", "e", "\u2028", "g"]


def parts_of(path: Path) -> tuple[dict[str, Any], bytes]:
    """What the page shows, and the bytes that are packed into it."""
    text = path.read_text("utf-8")
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    packed = re.search(r'<script type="text/plain" id="packed">(.*?)</script>', text, re.S)
    assert data and packed
    return json.loads(data[1]), zlib.decompress(base64.b64decode(packed[1]))


def packed(all_bytes: bytes, place: list[int], dtype: str) -> np.ndarray:
    start, size = place
    return np.frombuffer(all_bytes[start : start + size], dtype)


class Tags(HTMLParser):
    """The elements that a browser makes of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)


@pytest.fixture
def exported(tmp_path) -> tuple[Workbench, Path]:
    spans = {"prompt": (0, 3), "answer": (3, 7)}
    bench = Workbench(record(MOE, TOKENS, spans))
    bench.state.layer, bench.state.head, bench.state.token = 2, 1, 2
    bench.note(EVIL)
    bench.export_html(tmp_path / "page.html")
    return bench, tmp_path / "page.html"


def test_every_weight_of_every_head_is_in_the_page(exported) -> None:
    bench, path = exported
    data, found = parts_of(path)
    about, n = data["attention"], len(TOKENS)
    levels = packed(found, about["cells"], "u1").reshape(4, 4, n * (n + 1) // 2)
    rows, columns = np.tril_indices(n)
    values = np.array(about["levels"])[levels - 1]
    for layer in range(4):
        for head in range(4):
            exact = bench.state.recording.attention[layer, head].numpy()[rows, columns]
            assert np.abs(values[layer, head] - exact).max() < 1 / 254
    assert (
        about["layers"] == [0, 1, 2, 3] and about["levels"][0] == 0 and len(about["levels"]) == 255
    )


def test_small_weights_keep_their_digits(exported) -> None:
    levels = np.array(parts_of(exported[1])[0]["attention"]["levels"])
    assert np.diff(levels[:12]).max() < 0.0004, "the square root has fine levels near 0"


def test_the_routing_of_every_layer_is_in_the_page(exported) -> None:
    bench, path = exported
    data, found = parts_of(path)
    about, routing = data["routing"], bench.state.recording.routing
    experts = packed(found, about["experts"], "<u2").reshape(2, len(TOKENS), 2)
    assert about["layers"] == [1, 3]
    for row, layer in enumerate((1, 3)):
        assert experts[row].tolist() == routing.layer(layer).experts.tolist()
    weights = np.array(about["levels"])[packed(found, about["weights"], "u1") - 1]
    assert np.abs(weights - torch.stack([*routing.weights]).flatten().numpy()).max() < 1 / 254


def test_an_empty_slot_of_a_token_is_no_expert(tmp_path) -> None:
    recording = record(MOE, TOKENS, {})
    recording.activations["blocks.1.mlp.hook_expert_indices"][0, 1] = -1
    Workbench(recording).export_html(tmp_path / "page.html")
    data, found = parts_of(tmp_path / "page.html")
    assert packed(found, data["routing"]["experts"], "<u2")[1] == 65_535


def test_surprisal_and_entropy_are_those_of_the_reply(tiny_lab, tmp_path) -> None:
    bench = Workbench(tiny_lab, question="3+4=?", thinking=False)
    chat = bench.run()
    bench.export_html(tmp_path / "page.html")
    data, found = parts_of(tmp_path / "page.html")
    first = chat.spans["prompt"][1]
    for about, known in zip(data["quantities"], (-chat.logprobs, chat.entropy), strict=True):
        values = packed(found, about["values"], "<f4")
        assert np.isnan(values[:first]).all()
        assert values[first:].tolist() == known[: len(values) - first].tolist()
    assert [each["title"] for each in data["quantities"]] == ["surprisal (nats)", "entropy (nats)"]
    assert (data["question"], data["reply"]) == ("3+4=?", chat.answer)


def test_a_chosen_colour_scale_is_that_of_each_map_of_the_page(exported, tmp_path) -> None:
    bench, _ = exported
    bench.state.colours = "square root, clipped at 90%"
    bench.export_html(tmp_path / "chosen.html")
    data, found = parts_of(tmp_path / "chosen.html")
    about, n = data["attention"], len(TOKENS)
    levels = packed(found, about["cells"], "u1").reshape(4, 4, n * (n + 1) // 2)
    for layer, head in ((0, 0), (2, 1), (3, 3)):
        weights = bench.state.recording.attention[layer, head].numpy()[np.tril_indices(n)]
        scale = about["chosen"]["scales"][about["chosen"]["of"][4 * layer + head]]
        colours = packed(found, scale["colours"], "u1")[levels[layer, head] - 1]
        top = np.quantile(weights[weights > 0], 0.9)
        expected = 255 * np.sqrt(np.minimum(weights / top, 1))
        assert np.abs(colours - expected).max() < 2
        assert scale["scaleNote"] == "square root, clipped at the 90% quantile"
        assert scale["barTicks"][-1] == [1.0, f"≥ {top:.2g}"]
        assert scale["shades"]["high"] == pytest.approx(top) and scale["shades"]["clipped"]
    assert data["wall"]["map"]["scaleNote"].startswith("square root")


def test_a_chosen_colour_scale_holds_for_routing_and_quantities_of_the_page(
    tiny_lab, tmp_path
) -> None:
    bench = Workbench(tiny_lab, question="3+4=?", thinking=False)
    chat = bench.run()
    bench.state.colours = "logarithm"
    bench.export_html(tmp_path / "page.html")
    data, found = parts_of(tmp_path / "page.html")
    routing, weights = data["routing"], torch.cat([*chat.recording.routing.weights]).numpy()
    (scale,) = routing["chosen"]["scales"]
    low, high = min(weights.min(), weights.max() / 10), weights.max()
    levels = np.array(routing["levels"])
    expected = 255 * np.log(np.maximum(levels, low) / low) / np.log(high / low)
    assert np.abs(packed(found, scale["colours"], "u1") - expected).max() < 2
    assert {each["kind"] for each in data["quantities"]} == {"logarithm"}
    assert data["quantities"][0]["high"] == pytest.approx(float(-chat.logprobs.min()))


def test_a_page_without_a_chosen_scale_names_none(exported) -> None:
    data, _ = parts_of(exported[1])
    assert data["attention"]["chosen"] is None and data["routing"]["chosen"] is None
    assert data["attention"]["scaleNote"] == "square root"


def test_a_page_of_500_tokens_is_small(tiny_lab, tmp_path) -> None:
    chance = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 1000, (500,), generator=chance).tolist()
    Workbench(tiny_lab.record(ids)).export_html(tmp_path / "page.html")
    data, _ = parts_of(tmp_path / "page.html")
    assert len(data["tokens"]) == 500 and data["attention"]["layers"] == [0, 1, 2, 3, 4, 5]
    assert (tmp_path / "page.html").stat().st_size < 5_000_000


def test_texts_cannot_leave_their_element(exported) -> None:
    _, path = exported
    tags = Tags(path).found
    assert "img" not in tags and tags.count("script") == 3
    data, _ = parts_of(path)
    assert data["notes"][0]["text"] == EVIL and data["tokens"][2][0] == EVIL.replace(" ", "·")


def test_chosen_layers_are_those_of_the_page(tmp_path) -> None:
    bench = Workbench(record(MOE, TOKENS, {}))
    bench.export_html(tmp_path / "page.html", layers=[3, 1])
    data, found = parts_of(tmp_path / "page.html")
    assert data["attention"]["layers"] == [3, 1] and data["picks"]["layer"] == 3
    levels = packed(found, data["attention"]["cells"], "u1").reshape(2, 4, -1)
    exact = bench.state.recording.attention[1, 2].numpy()[np.tril_indices(len(TOKENS))]
    assert np.abs(np.array(data["attention"]["levels"])[levels[1, 2] - 1] - exact).max() < 1 / 254


def test_a_dense_model_has_a_page_without_routing(tmp_path) -> None:
    Workbench(record(DENSE, TOKENS, {})).export_html(tmp_path / "page.html")
    assert parts_of(tmp_path / "page.html")[0]["routing"] is None


def test_what_is_too_large_or_missing_is_refused_and_nothing_is_written(
    tmp_path, monkeypatch
) -> None:
    path, bench = tmp_path / "page.html", Workbench(record(MOE, TOKENS, {}))
    with pytest.raises(RecordingError, match=r"layer 4 has no attention.*there is 0, 1, 2, 3"):
        bench.export_html(path, layers=[4])
    with pytest.raises(RecordingError, match="no layers are chosen"):
        bench.export_html(path, layers=[])
    with pytest.raises(RecordingError, match="there is no finished run"):
        Workbench(FakeLab()).export_html(path)
    # 4 heads of 7 tokens have 112 weights a layer.
    monkeypatch.setattr("qwen3lab.widgets.workbench.keep.packing.MAX_WEIGHTS", 250)
    with pytest.raises(RecordingError, match=r"up to 250 .* have 448: choose up to 2, as in"):
        bench.export_html(path)
    bench.export_html(tmp_path / "two.html", layers=[0, 1])
    monkeypatch.setattr("qwen3lab.widgets.workbench.keep.packing.MAX_WEIGHTS", 50)
    with pytest.raises(RecordingError, match="have 112: record a shorter text"):
        bench.export_html(path, layers=[0])
    assert not path.exists()


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium"), width=1366, height=768) as tabs:
        tabs.set_offline(True)
        yield tabs.new_page()


@pytest.mark.browser
def test_the_page_works_without_a_network(page: Page, exported) -> None:
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(exported[1].as_uri())
    page.locator("body[data-shown]").wait_for(state="attached")
    one, token = page.locator(".q3-map").nth(1), page.locator(".q3-page-token")
    expect(one).to_have_attribute("data-title", "Attention of layer 2, head 1")
    expect(page.locator(".q3-page-note")).to_have_text(f"token 2: {EVIL}")
    before = one.locator(".q3-overlay").evaluate("canvas => canvas.toDataURL()")
    page.locator(".q3-word").nth(4).click()
    expect(token).to_contain_text("Token 4 “e”")
    assert one.locator(".q3-overlay").evaluate("canvas => canvas.toDataURL()") != before
    picture = one.locator(".q3-canvas").evaluate("canvas => canvas.toDataURL()")
    page.get_by_role("combobox", name="head").select_option("3")
    expect(one).to_have_attribute("data-title", "Attention of layer 2, head 3")
    assert one.locator(".q3-canvas").evaluate("canvas => canvas.toDataURL()") != picture
    page.get_by_role("tab", name="Routing").click()
    by_layer = page.locator(".q3-map:visible").nth(1)
    expect(by_layer).to_have_attribute("data-title", "Experts of token 4 in every layer")
    page.locator(".q3-word").nth(5).click()
    expect(by_layer).to_have_attribute("data-title", "Experts of token 5 in every layer")
    assert page.evaluate("[window.pwned, document.images.length]") == [None, 0]
    assert errors == [] and [url for url in requests if not url.startswith("file:")] == []


def drawn(page: Page, path: Path) -> str:
    """The picture of the page's map of one head."""
    page.goto(path.as_uri())
    page.locator("body[data-shown]").wait_for(state="attached")
    one = page.locator(".q3-map").nth(1)
    expect(one).to_have_attribute("data-title", "Attention of layer 2, head 1")
    top = "canvas => canvas.getContext('2d').getImageData(0, 0, 250, canvas.height).data.join()"
    return one.locator(".q3-canvas").evaluate(top)


@pytest.mark.browser
def test_the_map_of_the_page_has_the_colours_of_the_chosen_scale(
    page: Page, exported, tmp_path
) -> None:
    bench, path = exported
    pictures = {"automatic": drawn(page, path)}
    for colours in ("square root", "logarithm"):
        bench.state.colours = colours
        bench.export_html(tmp_path / "chosen.html")
        pictures[colours] = drawn(page, tmp_path / "chosen.html")
    assert pictures["automatic"] == pictures["square root"], "what the page has by itself"
    assert pictures["logarithm"] != pictures["square root"]


@pytest.mark.browser
def test_the_page_says_what_the_recording_says(page: Page, exported) -> None:
    bench, path = exported
    page.goto(path.as_uri())
    page.locator("body[data-shown]").wait_for(state="attached")
    page.locator(".q3-word").nth(6).click()
    weights = bench.state.recording.attention[2, 1][6]
    routing = bench.state.recording.routing.layer(3)
    shown = page.locator(".q3-page-token").inner_text()
    largest = re.search(r"attends most to (\d+) “.*?” \(([\d.]+)\)", shown)
    assert largest and int(largest[1]) == int(weights.argmax())
    assert abs(float(largest[2]) - float(weights.max())) < 0.02
    chosen = re.search(r"Layer 3 routes it to experts (\d+) .*?, (\d+) ", shown)
    assert chosen and [int(n) for n in chosen.groups()] == routing.experts[6].tolist()
