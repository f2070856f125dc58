"""Attention maps show the weights of a pattern."""

import pytest
import torch

from qwen3lab import figures

TOKENS = ["<script>", " add", "\n", '"\\']
PATTERN = torch.tensor(
    [
        [1.0, 0.0, 0.0, 0.0],
        [0.25, 0.75, 0.0, 0.0],
        [0.5, 0.0, 0.5, 0.0],
        [0.125, 0.125, 0.25, 0.5],
    ]
)


def test_each_cell_up_to_the_query_shows_its_weight_and_later_keys_are_blank() -> None:
    (trace,) = figures.attention_map(PATTERN, TOKENS).data
    assert [list(row) for row in trace.z] == [
        [1.0, None, None, None],
        [0.25, 0.75, None, None],
        [0.5, 0.0, 0.5, None],
        [0.125, 0.125, 0.25, 0.5],
    ]
    assert (trace.zmin, trace.zmax) == (0, 1)


def test_axes_show_escaped_tokens_and_the_title_shows_layer_and_head() -> None:
    figure = figures.attention_map(PATTERN, TOKENS, layer=3, head=1)
    labels = ("0 &lt;script&gt;", "1 ·add", "2 ↵", '3 "\\')
    assert figure.data[0].x == labels
    assert figure.data[0].y == labels
    assert figure.layout.title.text == "Attention of layer 3, head 1"
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "category"
    assert figure.data[0].colorbar.title.text == "attention weight"


def test_a_pattern_of_another_size_than_the_tokens_is_refused_with_both_sizes() -> None:
    with pytest.raises(ValueError, match=r"shape \(4, 4\), but there are 2 tokens"):
        figures.attention_map(PATTERN, ["a", "b"])


def test_without_tokens_the_figure_is_a_message() -> None:
    figure = figures.attention_map(torch.zeros(0, 0), [])
    assert "no tokens" in figure.layout.annotations[0].text


def test_a_long_map_shows_the_largest_weight_of_each_block_and_names_the_block_size() -> None:
    n = 1025  # three tokens a block, 342 blocks
    pattern = torch.zeros(n, n)
    pattern[1000, 500] = 0.875
    figure = figures.attention_map(pattern, ["t"] * n)
    (trace,) = figure.data
    assert (len(trace.z), len(trace.z[0])) == (342, 342)
    assert trace.z[1000 // 3][500 // 3] == 0.875
    assert trace.y[1] == "3 t"
    assert "3 × 3 tokens" in figure.layout.title.subtitle.text
