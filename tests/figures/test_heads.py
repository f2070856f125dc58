"""Figures of all heads, and export to files and other packages."""

import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from qwen3lab import figures
from qwen3lab.analysis.attention.profile import head_profile
from qwen3lab.analysis.attention.statistics import key_mass
from tests.analysis.test_map_windows import recorded
from tests.notebooks.browser import chromium


@pytest.fixture(scope="module")
def recording():
    return recorded()


def test_a_head_map_shows_each_score_at_its_layer_and_head(recording) -> None:
    scores = head_profile(recording)
    (map_,) = figures.head_map(scores, "previous").data
    assert [list(row) for row in map_.z] == scores.previous.tolist()
    assert list(map_.y) == ["0", "1"] and list(map_.x) == ["0", "1", "2", "3"]
    assert "%" in map_.customdata[1][2]
    with pytest.raises(ValueError, match="there is no score 'beauty': choose from first"):
        figures.head_map(scores, "beauty")


def test_the_attention_wall_has_a_thumbnail_for_every_head(recording) -> None:
    figure = figures.attention_wall(recording)
    (wall,) = figure.data
    assert (len(wall.z), len(wall.z[0])) == (2 * 20 + 2, 4 * 20 + 3 * 2)
    assert list(figure.layout.xaxis.ticktext) == ["0", "1", "2", "3"]
    assert wall.z[0][0] == pytest.approx(1) and wall.z[0][1] is None
    assert list(figures.attention_wall(recording, layers=[1]).layout.yaxis.ticktext) == ["1"]


def test_a_sink_is_a_peak_of_the_sink_profile(recording) -> None:
    mass = torch.full((2, 4, 40), 0.1)
    mass[1, :, 3] = 0.8
    tokens = ["<b>", *["t"] * 39]
    figure = figures.sink_profile(mass, tokens, layers=(0, 5))
    assert figure.data[1].name == "layer 5" and figure.data[1].y[3] == pytest.approx(0.8)
    assert figure.data[0].x[0] == "0 &lt;b&gt;"
    assert len(figures.sink_profile(key_mass(recording), recording.tokens).data) == 2
    with pytest.raises(ValueError, match="the mass has 40 keys, but there are 2 tokens"):
        figures.sink_profile(mass, ["a", "b"])


def test_figures_are_saved_as_html_that_needs_no_network(recording, tmp_path) -> None:
    path = figures.save(figures.attention_wall(recording), tmp_path / "wall.html")
    text = path.read_text("utf-8")
    assert "plotly.js v" in text and "cdn.plot.ly" not in text.split("<script", 2)[-1][:400]
    with pytest.raises(ValueError, match=r"wall.gif ends in '.gif': choose from .html, .png"):
        figures.save(figures.attention_wall(recording), tmp_path / "wall.gif")


@pytest.mark.browser
@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.svg", b"<svg")])
def test_figures_are_saved_as_images(recording, tmp_path, name, begins) -> None:
    chromium()
    path = figures.save(figures.head_map(head_profile(recording), "previous"), tmp_path / name)
    assert path.read_bytes().startswith(begins)


def test_circuitsvis_and_bertviz_get_patterns_and_tokens_without_markup(
    recording, monkeypatch
) -> None:
    given = {}
    tokens = ["</script>", *recording.tokens[1:]]
    recording = replace(recording, tokens=tokens)
    circuitsvis, attention = ModuleType("circuitsvis"), ModuleType("circuitsvis.attention")
    attention.attention_patterns = lambda **values: given.update(values) or "shown"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "circuitsvis", circuitsvis)
    monkeypatch.setitem(sys.modules, "circuitsvis.attention", attention)
    assert figures.to_circuitsvis(recording, 1) == "shown"
    assert given["tokens"] == ["‹/script>", *["t"] * 39]
    torch.testing.assert_close(given["attention"], recording.attention.pattern(1))
    bertviz = ModuleType("bertviz")
    bertviz.head_view = lambda patterns, tokens: (patterns, tokens)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bertviz", bertviz)
    patterns, tokens = figures.to_bertviz(recording)
    assert len(patterns) == 2 and patterns[0].shape == (1, 4, 40, 40)
    assert tokens == given["tokens"]


@pytest.mark.parametrize("name", ["circuitsvis", "bertviz"])
def test_a_package_that_is_missing_is_named(recording, monkeypatch, name) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    call = figures.to_circuitsvis if name == "circuitsvis" else figures.to_bertviz
    arguments = (recording, 0) if name == "circuitsvis" else (recording,)
    with pytest.raises(ImportError, match=f"pip install {name}"):
        call(*arguments)
