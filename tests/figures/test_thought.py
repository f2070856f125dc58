"""Convergence, importance and attention of one thinking text are drawn with escaped text."""

import math

import pytest
import torch

from qwen3lab import figures
from qwen3lab.analysis.thinking_text import Looks
from qwen3lab.thinking import Convergence, Importance, Piece

STEPS = (Piece(5, 8, 3, "<i>3+4</i>"), Piece(8, 11, 6, "Wait."))


def made(answers, right=None):
    return Convergence((0, 3, 6), (None, *STEPS), answers, right, answers[-1][0], 6)


def test_shares_of_answers_sum_to_one_and_the_last_most_frequent_answer_comes_first() -> None:
    found = made(
        (("a", "b"), ("b", "b"), ("c", "c")), ((False, False), (False, False), (True, True))
    )
    figure = figures.convergence(found)
    names = [bar.name for bar in figure.data]
    assert names == ["c (right)", "b", "a"]
    total = [sum(bar.y[place] for bar in figure.data) for place in range(3)]
    assert total == pytest.approx([1, 1, 1])
    assert list(figure.data[0].x) == ["0", "3", "6"]
    assert figure.layout.shapes[0].x0 == 1.5
    assert "thinking tokens after that: 0" in figure.layout.annotations[0].text
    thought, answer = figure.data[0].customdata[1]
    assert "&lt;i&gt;" in thought and answer == "c (right)"


def test_plotly_does_not_substitute_templates_in_an_answer() -> None:
    bar, _ = figures.convergence(made((("%{customdata}",), ("%{y}",), ("%{y}",)))).data
    assert bar.name == "%{y}" and [row[1] for row in bar.customdata] == ["%{y}"] * 3
    assert "%{y}" not in bar.hovertemplate.replace("%{y:.2f}", "") and "answer" in bar.hovertemplate


def test_rare_answers_are_drawn_as_one_bar() -> None:
    found = made((tuple("abcdefgh"), tuple("aaaaaaaa"), tuple("aaaaaaaa")))
    figure = figures.convergence(found)
    assert len(figure.data) == 7
    assert figure.data[-1].name == "other answers"
    assert len({bar.marker.color for bar in figure.data}) == 7
    assert list(figure.data[-1].y) == pytest.approx([2 / 8, 0, 0])


def importance(values=(0.2, math.nan)):
    return Importance(
        "leave out", STEPS, ({"<b>": 1.0}, {"a": 1.0}), ({"b": 1.0}, {}), values, values, (4, 0), 4
    )


def test_importance_bars_are_in_the_order_of_the_text_and_coloured_by_kind() -> None:
    figure = figures.importance(importance())
    bars = {bar.name: bar for bar in figure.data}
    assert set(bars) == {"computing", "doubting"}
    assert list(bars["computing"].x) == [0.2] and list(bars["doubting"].x) == [None]
    assert list(bars["computing"].customdata[0]) == ["&lt;b&gt;", "b", 4]
    assert list(figure.layout.yaxis.categoryarray) == ["0 &lt;i&gt;3+4&lt;/i&gt;", "1 Wait."]
    with pytest.raises(ValueError, match="choose from distance, divergence"):
        figures.importance(importance(), measure="weight")


def test_attention_from_the_answer_has_a_row_for_every_head() -> None:
    mass = torch.tensor([[[0.25, 0.75], [1.0, 0.0]]])
    (map_,) = figures.answer_looks(Looks(("question", "rest"), mass), layers=[4]).data
    assert list(map_.y) == ["layer 4, head 0", "layer 4, head 1"]
    assert [list(row) for row in map_.z] == [[0.25, 0.75], [1.0, 0.0]]
    assert (map_.zmin, map_.zmax) == (0, 1)
    assert list(map_.x) == ["question", "rest"]
    five = Looks(("question", "a", " b", "c", "rest"), torch.full((1, 2, 5), 0.2), (4,))
    (numbered,) = figures.answer_looks(five).data
    assert list(numbered.x) == ["question", "0 a", "1 b", "2 c", "rest"]  # as in `importance`
    empty = figures.answer_looks(Looks(("question",), torch.zeros(0, 2, 1)))
    assert "attention was not recorded" in empty.layout.annotations[0].text
