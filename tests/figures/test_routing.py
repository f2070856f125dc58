"""Routing maps and loads show the values of their arguments."""

import pytest
import torch

from qwen3lab import figures

WEIGHTS = torch.tensor([[0.75, 0.0, 0.25], [0.0, 0.5, 0.5]])


def test_a_routing_map_has_experts_as_rows_and_blank_cells_for_experts_not_chosen() -> None:
    figure = figures.routing_map(WEIGHTS, ["<b>", "x"], layer=2)
    (trace,) = figure.data
    assert [list(row) for row in trace.z] == [[0.75, None], [None, 0.5], [0.25, 0.5]]
    assert trace.x == ("0 &lt;b&gt;", "1 x")
    assert (trace.zmin, trace.zmax) == (0, 0.75)
    assert figure.layout.title.text == "Expert routing of each token, layer 2"
    assert "not chosen" in figure.layout.title.subtitle.text


def test_weights_without_a_row_per_token_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rows, but there are 3 tokens"):
        figures.routing_map(WEIGHTS, ["a", "b", "c"])


def test_without_tokens_or_experts_the_figure_is_a_message() -> None:
    for empty, tokens in ((torch.zeros(0, 4), []), (torch.zeros(1, 0), ["a"])):
        assert "no routing" in figures.routing_map(empty, tokens).layout.annotations[0].text


def test_load_is_shown_in_percent_by_layer_with_the_uniform_load() -> None:
    figure = figures.expert_load(torch.tensor([[0.25, 0.75], [0.5, 0.5]]), layers=[1, 3])
    (trace,) = figure.data
    assert [list(row) for row in trace.z] == [[25.0, 75.0], [50.0, 50.0]]
    assert trace.y == ("1", "3")
    assert "50.0 %" in figure.layout.title.subtitle.text


def test_load_with_a_wrong_number_of_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="the load has 2 rows, but there are 3 layers"):
        figures.expert_load(torch.full((2, 4), 0.25), layers=[0, 1, 2])


def test_a_load_without_layers_gives_a_message() -> None:
    assert "no load" in figures.expert_load(torch.zeros(0, 4)).layout.annotations[0].text
