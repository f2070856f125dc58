"""Accuracy and thinking length against the budget are drawn with their intervals."""

import dataclasses
import math

import pytest

from qwen3lab import figures
from qwen3lab.analysis.budgets import BudgetCurve, BudgetPoint, Lengths
from qwen3lab.analysis.proportions import Share

CURVE = {40: Share(9, 10), 0: Share(1, 10), 10: Share(5, 10)}


def test_budgets_are_drawn_in_ascending_order_with_wilson_intervals() -> None:
    (line,) = figures.budget_curve(CURVE).data
    assert line.x == (0, 10, 40)
    assert line.y == (0.1, 0.5, 0.9)
    # Wilson's interval of 5 in 10 is 0.23659 to 0.76341.
    assert line.error_y.array[1] == pytest.approx(0.26341, abs=1e-4)
    assert line.error_y.arrayminus[1] == pytest.approx(0.26341, abs=1e-4)
    assert list(line.customdata[2][2:]) == [9, 10, "at most 40 thinking tokens"]


def test_accuracy_without_thinking_is_a_horizontal_line() -> None:
    figure = figures.budget_curve(CURVE, at_once=Share(2, 10))
    texts = [note.text for note in figure.layout.annotations]
    assert "without thinking: 0.20" in texts
    assert {shape.y0 for shape in figure.layout.shapes} >= {0.2}


def test_without_budgets_the_figure_is_a_message() -> None:
    assert "no budget was tested" in figures.budget_curve({}).layout.annotations[0].text


def point(budget: int | None, hits: int, *, used: float, flops: float = 1e6) -> BudgetPoint:
    return BudgetPoint(budget, Share(hits, 10), Share(0, 10), float(used), used + 5.0, flops)


MODEL = BudgetCurve(
    "<b>one</b>",
    1_000_000,
    (point(0, 1, used=0), point(10, 5, used=8, flops=2e6), point(40, 9, used=11, flops=3e6)),
    point(None, 2, used=0, flops=5e5),
)
OTHER = BudgetCurve("two", 4_000_000, (point(20, 6, used=15, flops=8e6),), None)


@pytest.mark.parametrize(
    ("against", "x", "quick"),
    [
        ("budget", [0, 10, 40], -2.0),
        ("tokens", [0, 8, 11], 0.0),
        ("flops", [1e6, 2e6, 3e6], 5e5),
    ],
)
def test_accuracy_is_drawn_against_the_selected_cost(
    against: str, x: list[int | float], quick: float
) -> None:
    figure = figures.accuracy_curves([MODEL, OTHER], against=against)
    line, dot, other = figure.data
    assert list(line.x) == x and line.y == (0.1, 0.5, 0.9)
    assert list(dot.x) == [quick] and dot.y == (0.2,)
    assert line.name == "&lt;b&gt;one&lt;/b&gt;" and other.name == "two"
    assert line.line.color == dot.line.color != other.line.color
    assert "no thinking" in dot.customdata[0][4]


def test_a_legend_of_levels_says_that_its_numbers_are_levels() -> None:
    levels = [dataclasses.replace(MODEL, name=name) for name in ("2", "10")]
    assert figures.accuracy_curves(levels).layout.legend.title.text == "level"
    assert figures.accuracy_curves([MODEL, OTHER]).layout.legend.title.text is None


def test_an_unknown_cost_is_refused() -> None:
    with pytest.raises(ValueError, match="against is 'time': choose from budget, tokens, flops"):
        figures.accuracy_curves([MODEL], against="time")


def test_models_are_drawn_in_ascending_order_of_active_parameters() -> None:
    figure = figures.accuracy_by_size([OTHER, MODEL])
    thinking, quick = figure.data
    assert (thinking.name, quick.name) == ("with thinking", "without thinking")
    assert list(thinking.x) == [1_000_000, 4_000_000] and list(thinking.y) == [0.9, 0.6]
    assert list(quick.x) == [1_000_000] and list(quick.y) == [0.2]
    places = {note.text: note.x for note in figure.layout.annotations}
    assert places["two"] == pytest.approx(math.log10(4_000_000))


def test_thinking_lengths_are_boxes_by_level_and_the_subtitle_counts_cuts() -> None:
    figure = figures.thinking_lengths([Lengths("2", (4, 6), 0), Lengths("10", (20,), 3)])
    assert [box.name for box in figure.data] == ["2", "10"]
    assert list(figure.data[0].y) == [4, 6]
    assert "6 replies; without 3 that the largest" in figure.layout.title.subtitle.text


def test_without_data_the_figures_are_messages() -> None:
    for figure in (
        figures.accuracy_curves([]),
        figures.accuracy_by_size([]),
        figures.thinking_lengths([Lengths("1", (), 4)]),
    ):
        assert figure.layout.annotations[0].text.startswith("There is no")
