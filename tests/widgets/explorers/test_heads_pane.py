"""The attention explorer of a large model: a map of scores that opens a layer's thumbnails."""

import ipywidgets as w
import pytest
import torch

from qwen3lab.widgets import AttentionExplorer
from qwen3lab.widgets.workbench.views.attention import AttentionPane
from qwen3lab.widgets.workbench.views.heads_pane import thumbnail_rows
from tests.figures.planted import SHAPES, planted
from tests.widgets.workbench.benches import attention

LAYER, HEAD = 9, 13


def opened(
    n_layers: int, n_heads: int, n_tokens: int = 24
) -> tuple[AttentionExplorer, AttentionPane]:
    recording = planted(n_layers, n_heads, n_tokens, layer=LAYER, head=HEAD)
    explorer = AttentionExplorer(recording)
    explorer._ipython_display_()
    explorer.wait()
    view = attention(explorer)
    assert explorer.state.error == ""
    return explorer, view


def inside(widget: w.Widget) -> list[w.Widget]:
    below = [each for child in getattr(widget, "children", ()) for each in inside(child)]
    return [widget, *below]


@pytest.mark.parametrize(("n_layers", "n_heads"), SHAPES)
def test_the_score_map_shows_the_planted_head_and_opens_its_layer(n_layers, n_heads) -> None:
    explorer, view = opened(n_layers, n_heads)
    shown = view.heads.scores.heatmap
    assert shown.values.shape == (n_layers, n_heads)
    best = divmod(int(shown.values.argmax()), n_heads)
    assert best == (LAYER, HEAD)
    view.heads.scores.selected = list(best)
    assert (explorer.state.layer, explorer.state.head) == (LAYER, HEAD)
    assert view.map.heatmap.title == f"Attention of layer {LAYER}, head {HEAD}"
    view.pane.value = "thumbnails"
    assert view.heads.wall.heatmap.title == f"Attention of the heads of layer {LAYER}"
    assert view.heads.scores.framed == [LAYER, HEAD, LAYER, HEAD]
    assert view.heads.scores in inside(view.root) and view.heads.wall in inside(view.root)


@pytest.mark.parametrize(("n_heads", "per_row"), [(16, 4), (32, 8), (64, 8)])
def test_thumbnails_have_at_least_48_pixels_and_a_click_opens_their_head(n_heads, per_row) -> None:
    explorer, view = opened(14, n_heads)
    view.pane.value = "thumbnails"
    pitch = 24 + 2  # 24 tokens, and a gap of two cells
    rows, columns = view.heads.wall.heatmap.values.shape
    assert (rows, columns) == (n_heads // per_row * pitch - 2, per_row * pitch - 2)
    # 52 pixels are for axis labels; a card on half a page of 1,366 pixels has 440 for cells.
    assert (view.heads.wall.height - 52) * 24 / rows >= 48 and 440 * 24 / columns >= 48
    assert thumbnail_rows(n_heads) == (per_row, n_heads // per_row)
    for head in (0, per_row - 1, per_row, n_heads - 1):
        top, left = head // per_row * pitch, head % per_row * pitch
        view.heads.wall.selected = [top + 3, left + 2]
        assert explorer.state.head == head
        assert view.heads.wall.framed == [top, left, top + 23, left + 23]
    view.pickers.layer.value = LAYER
    top, left = HEAD // per_row * pitch, HEAD % per_row * pitch
    thumb = view.heads.wall.heatmap.values[top : top + 24, left : left + 24]
    expected = explorer.state.recording.attention[LAYER, HEAD]
    torch.testing.assert_close(thumb.nan_to_num(0.0), expected)


def test_another_score_is_chosen_with_the_menu() -> None:
    explorer, view = opened(28, 16)
    view.heads.score.value = "first"
    assert view.heads.scores.heatmap.title.endswith("share on the first token")
    expected = explorer.state.scores.first
    torch.testing.assert_close(view.heads.scores.heatmap.values, expected)


def test_a_small_model_keeps_the_wall_of_all_thumbnails() -> None:
    recording = planted(4, 4, 20, layer=1, head=2)
    explorer = AttentionExplorer(recording)
    explorer._ipython_display_()
    explorer.wait()
    view = attention(explorer)
    assert view.heads.wall.heatmap.title == "Attention of all heads"
    assert view.heads.wall.heatmap.values.shape == (4 * 22 - 2, 4 * 22 - 2)
    assert view.heads.scores.layout.display == "none" and view.heads.wall.layout.display == ""
    assert view.pane.value == "thumbnails"


def test_each_widget_is_in_the_page_once_and_closed_with_it() -> None:
    explorer, view = opened(28, 16)
    found = inside(view.root)
    assert len(found) == len(set(map(id, found)))
    score, wall = view.heads.score, view.heads.wall
    explorer.close()
    assert score.comm is None and wall.comm is None


def test_long_texts_have_the_colours_of_their_values() -> None:
    _, view = opened(28, 16, n_tokens=120)
    assert view.map.map["scaleNote"] != ""
    _, small = opened(28, 16, n_tokens=24)
    assert small.map.map["scaleNote"] == "" and small.map.map["levels"][-1] == 1.0
