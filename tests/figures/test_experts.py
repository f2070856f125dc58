import pytest
import torch

from qwen3lab import figures
from qwen3lab.analysis.specialisation import Interval
from qwen3lab.experiments.knockout import KnockOut


def only_trace(figure):
    (trace,) = figure.data
    return trace


def test_the_token_strip_shows_the_text_and_each_tokens_expert():
    tokens = [f" w{n}" for n in range(14)]
    experts = torch.tensor([*range(13), -1])
    trace = only_trace(figures.token_strip(tokens, experts, layer=2))
    assert [len(row) for row in trace.z] == [12, 12]
    assert trace.z[0][5] == 5 and trace.z[1][0] == 12
    assert trace.z[1][1] is None and trace.z[1][11] is None
    assert trace.text[1][0] == "<b>·w12</b><br>expert 12" and trace.text[1][2] == ""
    assert trace.customdata[1][1] == 13


def test_the_token_strip_escapes_markup():
    trace = only_trace(figures.token_strip(["<b>", "$x$", "&amp;"], torch.tensor([0, 1, 1])))
    shown = [text.partition("</b><br>")[0] for text in trace.text[0][:3]]
    assert shown == ["<b>&lt;b&gt;", "<b>&#36;x&#36;", "<b>&amp;amp;"]


def test_sixteen_experts_have_different_colours():
    scale = only_trace(figures.token_strip(["a"] * 16, torch.arange(16))).colorscale
    assert len({colour for _, colour in scale}) == 16


def test_transitions_are_shown_in_percent_and_experts_without_tokens_grey():
    flow = torch.tensor([[0.25, 0.75], [float("nan"), float("nan")]])
    figure = figures.transitions(flow, layers=(1, 2))
    trace = only_trace(figure)
    assert list(trace.z[0]) == [25.0, 75.0] and list(trace.z[1]) == [None, None]
    assert figure.layout.yaxis.title.text == "expert in layer 1"
    assert figure.layout.xaxis.title.text == "expert in layer 2"


def test_co_activated_experts_are_adjacent():
    together = torch.full((6, 6), 0.05)
    for one, other in ((0, 4), (1, 3), (2, 5)):
        together[one, other] = together[other, one] = 0.9
    together.fill_diagonal_(1.0)
    trace = only_trace(figures.co_activation(together))
    order = [int(name) for name in trace.x]
    pairs = {frozenset(order[start : start + 2]) for start in (0, 2, 4)}
    assert pairs == {frozenset((0, 4)), frozenset((1, 3)), frozenset((2, 5))}
    assert list(trace.x) == list(trace.y)
    assert trace.z[0][0] is None
    assert trace.z[0][1] == pytest.approx(90.0)


def test_specialisation_bars_have_intervals_and_a_line_at_the_uniform_share():
    value = torch.tensor([[0.5, 0.1], [0.2, 0.9]])
    found = Interval(value, value - 0.1, value + 0.05)
    figure = figures.specialisation(found, ["english", "中文"], expert=1, k=1, layer=3)
    trace = only_trace(figure)
    assert list(trace.y) == pytest.approx([10, 90])
    assert list(trace.error_y.array) == pytest.approx([5, 5], abs=1e-4)
    assert list(trace.error_y.arrayminus) == pytest.approx([10, 10], abs=1e-4)
    assert figure.layout.shapes[0].y0 == 50
    assert "expert 1 of layer 3" in figure.layout.title.text


def test_the_colours_of_a_load_difference_are_symmetric_about_0():
    one, other = torch.tensor([[0.7, 0.3]]), torch.tensor([[0.4, 0.6]])
    figure = figures.load_difference(one, other, names=("thinking", "<answer>"), layers=[5])
    trace = only_trace(figure)
    assert list(trace.z[0]) == pytest.approx([30, -30])
    assert (trace.zmin, trace.zmax) == (pytest.approx(-30), pytest.approx(30))
    assert list(trace.y) == ["5"]
    assert "&lt;answer&gt;" in figure.layout.title.text


def knocked(added):
    n_layers, n_experts, n_groups = added.shape
    return KnockOut(
        layers=tuple(range(3, 3 + n_layers)),
        groups=tuple("abc"[:n_groups]),
        base=torch.ones(n_groups),
        added=added,
        load=torch.full((n_layers, n_experts), 1 / n_experts),
    )


def test_experts_with_the_largest_added_loss_come_first():
    added = torch.zeros(2, 4, 2)
    added[1, 2, 0], added[0, 3, 1] = 2.0, 1.0
    trace = only_trace(figures.knock_out(knocked(added), most=3))
    assert list(trace.y[:2]) == ["layer 4, expert 2", "layer 3, expert 3"]
    assert len(trace.y) == 3
    assert list(trace.z[0]) == [2.0, 0.0] and list(trace.z[1]) == [0.0, 1.0]
    assert list(trace.x) == ["a", "b"]
    assert list(trace.customdata[0]) == [25, 25]


def test_without_data_the_figures_are_messages():
    for figure in (
        figures.token_strip([], torch.zeros(0, dtype=torch.long)),
        figures.transitions(torch.zeros(0, 0)),
        figures.knock_out(knocked(torch.zeros(0, 4, 1))),
    ):
        assert "There is n" in figure.layout.annotations[0].text


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: figures.token_strip(["a"], torch.tensor([1, 2])), "2 experts for 1 tokens"),
        (
            lambda: figures.load_difference(torch.ones(1, 2), torch.ones(2, 2), names=("a", "b")),
            "cannot be compared",
        ),
        (
            lambda: figures.specialisation(Interval(*[torch.ones(2, 2)] * 3), ["a"], expert=0, k=1),
            "1 labels name 2 rows",
        ),
        (
            lambda: figures.specialisation(Interval(*[torch.ones(1, 2)] * 3), ["a"], expert=2, k=1),
            "expert 2 does not exist",
        ),
    ],
)
def test_arguments_that_do_not_match_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
