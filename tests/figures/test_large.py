"""Figures at the sizes of large models: nothing hidden by gaps, labels that fit, bounded JSON."""

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from qwen3lab import figures
from qwen3lab.analysis.attention.profile import head_profile
from qwen3lab.analysis.thinking_text import Looks
from qwen3lab.figures.sizes import label_step
from tests.figures.planted import SHAPES, planted, shares

MEGABYTE = 1_000_000
LAYERS = (48, 94)
N_EXPERTS, N_TOKENS = 128, 512


def map_of(figure: go.Figure) -> go.Heatmap:
    (found,) = figure.select_traces({"type": "heatmap"})
    return found


def table(figure: go.Figure) -> np.ndarray:
    rows = [[np.nan if cell is None else cell for cell in row] for row in map_of(figure).z]
    return np.array(rows, dtype=float)


def largest(figure: go.Figure) -> tuple[str, str]:
    """Names of the row and column of the largest value."""
    cells = table(figure)
    row, column = divmod(int(np.nanargmax(cells)), cells.shape[1])
    return str(map_of(figure).y[row]), str(map_of(figure).x[column])


def check_size(figure: go.Figure) -> None:
    """No gaps, as many labels as fit their axis, and at most two megabytes."""
    found = map_of(figure)
    assert not found.xgap and not found.ygap
    assert len(figure.to_json()) < 2 * MEGABYTE
    axes = ((figure.layout.yaxis, len(found.y), figure.layout.height - 150),)
    for axis, n, pixels in (*axes, (figure.layout.xaxis, len(found.x), 700)):
        shown = len(axis.tickvals) if axis.tickvals else axis.nticks or n
        assert 5 <= shown <= pixels / 14


@pytest.mark.parametrize("n_layers", LAYERS)
def test_the_load_of_128_experts_shows_one_overloaded_expert(n_layers) -> None:
    load = shares(n_layers, N_EXPERTS, row=20, column=77)
    figure = figures.expert_load(load, layers=range(n_layers))
    check_size(figure)
    assert largest(figure) == ("20", "77")
    assert "clipped at the 99.5% quantile" in map_of(figure).colorbar.title.text
    other = shares(n_layers, N_EXPERTS, row=5, column=9)
    changed = figures.load_difference(load, other, names=("a", "b"), layers=range(n_layers))
    check_size(changed)
    assert largest(changed) == ("20", "77")


@pytest.mark.parametrize("kind", ["transitions", "co-activation"])
def test_a_pair_among_128_experts_is_found_where_it_was_planted(kind) -> None:
    flow = shares(N_EXPERTS, N_EXPERTS, row=20, column=77)
    if kind == "transitions":
        figure = figures.transitions(flow, layers=(3, 4))
        assert largest(figure) == ("20", "77")
    else:
        figure = figures.co_activation((flow + flow.T) / 2, layer=3)
        assert set(largest(figure)) == {"20", "77"}
        places = [list(map_of(figure).y).index(name) for name in ("20", "77")]
        assert abs(places[0] - places[1]) == 1
    check_size(figure)


def test_a_routing_map_of_512_tokens_keeps_every_choice() -> None:
    chance = torch.Generator().manual_seed(2)
    scores, experts = torch.randn(N_TOKENS, N_EXPERTS, generator=chance).topk(8)
    weights = torch.zeros(N_TOKENS, N_EXPERTS).scatter_(1, experts, scores.softmax(-1))
    weights[100] = 0
    weights[100, 120] = 1.0
    figure = figures.routing_map(weights, ["<b>"] * N_TOKENS, layer=7)
    check_size(figure)
    assert largest(figure) == ("120", "100 &lt;b&gt;")
    drawn = table(figure)
    assert int((~np.isnan(drawn)).sum()) == 8 * (N_TOKENS - 1) + 1
    np.testing.assert_allclose(np.nan_to_num(drawn), weights.T.numpy(), rtol=1e-3)
    assert all(name in map_of(figure).hovertemplate for name in ("token", "expert", "weight"))


@pytest.mark.parametrize(("n_layers", "n_heads"), SHAPES)
def test_attention_from_the_answer_of_all_heads_keeps_the_largest_share(n_layers, n_heads) -> None:
    mass = torch.rand(n_layers, n_heads, 30, generator=torch.Generator().manual_seed(3))
    mass[12, 13, 7] = 900.0
    mass = mass / mass.sum(-1, keepdim=True)
    names = tuple(f"sentence {place}" for place in range(30))
    figure = figures.answer_looks(Looks(names, mass, tuple(range(n_layers))))
    check_size(figure)
    row, column = largest(figure)
    assert column == "6 sentence·7" and row.startswith("layer 12, head")
    found = map_of(figure)
    place = list(found.y).index(row)
    assert found.z[place][7] == pytest.approx(float(mass[12, 13, 7]), rel=1e-3)
    if n_layers == 28:
        assert row == "layer 12, head 13" and len(found.y) == 28 * 16
    else:
        assert found.customdata[place][7] == 13
        first, last = map(int, row.removeprefix("layer 12, heads ").split(" to "))
        assert first <= 13 <= last
        step = last - first + 1
        assert f"the largest share of {step} heads" in figure.layout.title.subtitle.text
    # About a pixel or more for each row.
    assert len(found.y) <= figure.layout.height - 150


@pytest.mark.parametrize("n_tokens", [N_TOKENS, 2000])
def test_an_attention_map_of_a_long_text_with_a_sink_is_not_blank(n_tokens) -> None:
    recording = planted(1, 2, n_tokens, layer=0, head=1)
    sink, previous = (figures.attention_map(recording.attention[0, head]) for head in (0, 1))
    check_size(sink)
    check_size(previous)
    drawn = table(sink)
    assert set(np.nanargmax(drawn[20:], axis=1)) == {0}
    # The median weight has another colour than the smallest: 8 of 128 steps or more.
    found, median = map_of(sink), np.nanmedian(drawn)
    stops = [place for place, _ in found.colorscale]
    assert np.searchsorted(stops, (median - found.zmin) / (found.zmax - found.zmin)) >= 8
    if n_tokens == N_TOKENS:
        best = np.nanargmax(table(previous)[20:], axis=1)
        assert (best == np.arange(19, n_tokens - 1)).mean() > 0.95


@pytest.fixture(scope="module")
def deep():
    recording = planted(48, 32, 40, layer=30, head=21)
    return recording, head_profile(recording, progress=False)


def test_a_wall_of_1536_heads_is_a_map_of_scores_with_a_menu(deep) -> None:
    recording, scores = deep
    figure = figures.attention_wall(recording, scores=scores)
    assert largest(figure) == ("30", "21")
    assert "&lt;i&gt;made up&lt;/i&gt;" in figure.layout.title.text
    assert "attention_wall(recording, layers=[0])" in figure.layout.title.subtitle.text
    assert len(figure.to_json()) < 2 * MEGABYTE
    (menu,) = figure.layout.updatemenus
    labels = [button.label for button in menu.buttons]
    assert labels[menu.active] == "previous" and "induction" in labels
    trace, layout = menu.buttons[labels.index("first")].args
    np.testing.assert_allclose(np.array(trace["z"][0]), scores.first.numpy(), rtol=1e-3)
    assert "share on the first token" in layout["title.text"]
    measured = figures.attention_wall(recording, score="first")
    assert table(measured).shape == (48, 32)


def test_the_thumbnails_of_one_layer_of_a_large_model_have_48_pixels(deep) -> None:
    recording, _ = deep
    figure = figures.attention_wall(recording, layers=[30])
    found = map_of(figure)
    assert list(figure.layout.yaxis.ticktext) == ["30, from head 0", "30, from head 16"]
    side = 20  # 40 tokens in pairs
    assert np.array(found.z, dtype=float).shape == (2 * (side + 2) - 2, 16 * (side + 2) - 2)
    # Head 21 is the sixth of the second row: its previous tokens are on the diagonal.
    thumb = np.array(found.z, dtype=float)[side + 2 :, 5 * (side + 2) :][:side, :side]
    assert np.nanmin(np.nanmax(thumb, axis=1)[1:]) > 0.9
    assert (figure.layout.width - 240) / 16 >= 48 and (figure.layout.height - 150) / 2 >= 48
    assert len(figures.attention_wall(recording, layers=range(12)).to_json()) < 2 * MEGABYTE


def test_a_score_map_can_be_limited_to_some_layers() -> None:
    recording = planted(30, 16, 12, layer=28, head=3)
    figure = figures.attention_wall(recording, layers=range(3, 29))
    assert table(figure).shape == (26, 16) and largest(figure) == ("28", "3")
    assert len(figure.layout.updatemenus[0].buttons[0].args[0]["z"][0]) == 26
    with pytest.raises(ValueError, match="there is no score 'beauty'"):
        figures.attention_wall(recording, score="beauty")


def test_the_sink_profile_of_48_layers_is_a_map() -> None:
    mass = torch.full((48, 4, N_TOKENS), 0.001)
    mass[31, :, 99] = 0.9
    figure = figures.sink_profile(mass, ["t"] * N_TOKENS, layers=range(48))
    check_size(figure)
    assert largest(figure) == ("31", "99 t")


@pytest.mark.parametrize("n", [1, 7, 48, 94, 128, 512, 6016])
@pytest.mark.parametrize("pixels", [300, 600, 810])
def test_labels_are_apart_and_as_many_as_fit(n, pixels) -> None:
    step = label_step(n, pixels, 15)
    assert step * pixels / n >= 15
    smaller = {2: 1, 5: 2, 10: 5, 20: 10, 50: 20, 100: 50, 200: 100, 500: 200}.get(step)
    assert smaller is None or smaller * pixels / n < 15
