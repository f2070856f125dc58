"""Every public figure states its title, its axes and the unit of its values."""

import plotly.graph_objects as go
import pytest
import torch

from qwen3lab import figures, lenses
from qwen3lab.analysis.attention.profile import head_profile
from qwen3lab.analysis.attention.statistics import key_mass
from qwen3lab.analysis.budgets import BudgetCurve, BudgetPoint, Lengths
from qwen3lab.analysis.proportions import Share
from qwen3lab.analysis.specialisation import Interval
from qwen3lab.analysis.thinking_text import Looks
from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.experiments.knockout import KnockOut
from qwen3lab.figures.theme import traces
from qwen3lab.text.tokenizer import open_tokenizer
from tests.analysis.test_atlas import ATLAS
from tests.figures.planted import planted, shares
from tests.figures.test_atlas import FOUND
from tests.figures.test_attribution import DIRECT
from tests.figures.test_difference import attention, prediction, routing
from tests.figures.test_growth import HISTORY
from tests.figures.test_patching import BY_TOKEN, ablated
from tests.figures.test_probes import made as probes
from tests.figures.test_pruning import CURVE as PRUNED
from tests.figures.test_steering import curve
from tests.figures.test_thought import importance, made
from tests.figures.test_uncertainty import RESULT
from tests.lenses.small import IDS, small_lab

NOT_FIGURES = {"save", "to_bertviz", "to_circuitsvis"}
HEADS = planted(2, 4, 24, layer=1, head=2)
DEEP = planted(30, 16, 12, layer=28, head=3)
LOAD = shares(4, 8, row=1, column=2)
HALF = Share(5, 10)
CURVE = BudgetCurve("a", 1000, (BudgetPoint(8, HALF, HALF, 4.0, 9.0, 1e9),), None)
SPAN = torch.full((2, 3), 0.5)
KNOCKED = KnockOut((0,), ("a",), torch.ones(1), torch.ones(1, 2, 1), torch.full((1, 2), 0.5))


def small_lens() -> lenses.Lens:
    lab = small_lab(open_tokenizer(find_folder("tiny-dense")))
    return lenses.logit_lens(lab, lab.record(IDS, capture=lenses.NEEDED))


DRAWN = {
    "accuracy_by_size": ("share", lambda: figures.accuracy_by_size([CURVE])),
    "accuracy_curves": ("share", lambda: figures.accuracy_curves([CURVE])),
    "answer_looks": (
        "share of attention",
        lambda: figures.answer_looks(Looks(("a", "b"), torch.rand(2, 4, 2), (0, 1))),
    ),
    "atlas_map": ("npmi", lambda: figures.atlas_map(ATLAS, "role")),
    "attention_map": ("weight", lambda: figures.attention_map(HEADS.attention[0, 1])),
    "attention_wall": ("weight", lambda: figures.attention_wall(HEADS)),
    "attention_wall of many heads": ("share", lambda: figures.attention_wall(DEEP)),
    "attribution_layers": ("logits", lambda: figures.attribution_layers(DIRECT)),
    "attribution_waterfall": ("logits", lambda: figures.attribution_waterfall(DIRECT)),
    "budget_curve": ("share", lambda: figures.budget_curve({8: HALF, 16: HALF})),
    "co_activation": ("%", lambda: figures.co_activation(shares(6, 6, row=1, column=2))),
    "convergence": ("share", lambda: figures.convergence(made((("a",), ("a",), ("b",))))),
    "difference": ("attention weight", lambda: figures.difference(attention())),
    "difference of routing": ("routing weight", lambda: figures.difference(routing())),
    "difference of predictions": ("nats", lambda: figures.difference(prediction())),
    "expert_load": ("%", lambda: figures.expert_load(LOAD, layers=range(4))),
    "growth": ("nats", lambda: figures.growth(HISTORY)),
    "head_map": ("nats", lambda: figures.head_map(head_profile(HEADS), "entropy")),
    "importance": ("total variation", lambda: figures.importance(importance())),
    "knock_out": ("nats", lambda: figures.knock_out(KNOCKED)),
    "lens_map": ("probability", lambda: figures.lens_map(small_lens())),
    "load_difference": (
        "points",
        lambda: figures.load_difference(LOAD, LOAD, names=("a", "b"), layers=range(4)),
    ),
    "patching_map": ("share", lambda: figures.patching_map(BY_TOKEN)),
    "patching_map of an ablation": ("logits", lambda: figures.patching_map(ablated())),
    "probe_accuracy": ("share", lambda: figures.probe_accuracy(probes())),
    "pruning_curve": ("nats", lambda: figures.pruning_curve(PRUNED)),
    "ratios": ("ratio", lambda: figures.ratios(["a"], [1.5], ["b"], title="Speed")),
    "routing_map": ("weight", lambda: figures.routing_map(LOAD, ["a"] * 4, layer=1)),
    "sink_profile": ("share", lambda: figures.sink_profile(key_mass(HEADS))),
    "sink_profile of many layers": ("share", lambda: figures.sink_profile(key_mass(DEEP))),
    "specialisation": (
        "%",
        lambda: figures.specialisation(Interval(SPAN, SPAN, SPAN), ["a", "b"], expert=1, k=1),
    ),
    "strength_curve": ("nats", lambda: figures.strength_curve(curve())),
    "thinking_lengths": ("tokens", lambda: figures.thinking_lengths([Lengths("1", (3, 4), 0)])),
    "token_strip": (
        "expert 1",
        lambda: figures.token_strip(["a", "b"], torch.tensor([0, 1]), layer=2),
    ),
    "topic_and_type": ("nats", lambda: figures.topic_and_type(FOUND)),
    "transitions": ("%", lambda: figures.transitions(shares(6, 6, row=1, column=2))),
    "uncertainty": ("nats", lambda: figures.uncertainty(RESULT)),
}
"""For each figure, a word of its unit, and a call that draws it."""


def test_each_public_figure_is_in_this_test() -> None:
    assert {name.partition(" ")[0] for name in DRAWN} == set(figures.__all__) - NOT_FIGURES


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_has_a_title_axis_titles_and_a_unit(name) -> None:
    unit, draw = DRAWN[name]
    figure = draw()
    # The plots of `growth` have a title each.
    headings = [note.text for note in figure.layout.annotations if "<b>" in note.text]
    assert figure.layout.title.text or len(headings) >= 2
    axes = [*figure.select_xaxes(), *figure.select_yaxes()]
    titles = [axis.title.text for axis in axes if axis.visible is not False]
    assert all(titles), titles
    assert unit in " ".join([*titles, *bar_titles(figure), *cell_texts(figure)])


def bar_titles(figure: go.Figure) -> list[str]:
    bars = [getattr(trace, "colorbar", None) for trace in traces(figure)]
    bars += [trace.marker.colorbar for trace in figure.select_traces({"type": "scatter"})]
    return [bar.title.text for bar in bars if bar is not None and bar.title.text]


def cell_texts(figure: go.Figure) -> list[str]:
    """Text in the cells of a heatmap, such as the expert of each token."""
    found = [trace.text for trace in figure.select_traces({"type": "heatmap"})]
    return [cell for rows in found if rows is not None for row in rows for cell in row]
