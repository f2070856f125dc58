"""The figure of a strength curve holds its numbers, and escapes text."""

import torch

from qwen3lab import figures
from qwen3lab.figures.theme import traces
from qwen3lab.steering import StrengthCurve

VALUES = torch.arange(12.0).reshape(4, 3)


def curve(**changes):
    fields = {
        "model_name": "a <b> model",
        "made_by": "by <i>hand</i>",
        "metric": "logit “<b>”",
        "unit": "logits",
        "strengths": (-1.0, 0.0, 1.0),
        "directions": ("vector", "random 0", "random 1", "shuffled"),
        "base": 0.0,
        "base_unrelated": 0.0,
        "base_loss": 2.0,
        "effect": VALUES,
        "unrelated": VALUES + 100,
        "damage": VALUES + 200,
    }
    return StrengthCurve(**(fields | changes))


def test_each_direction_has_a_line_of_effect_and_of_damage():
    drawn = traces(figures.strength_curve(curve()))
    values = sorted(tuple(trace.y) for trace in drawn)
    expected = [tuple(row.tolist()) for each in (VALUES, VALUES + 200) for row in each]
    assert values == sorted([*expected, tuple((VALUES[0] + 100).tolist())])
    assert all(tuple(trace.x) == (-1.0, 0.0, 1.0) for trace in drawn)
    named = [trace.name for trace in drawn if trace.showlegend is not False]
    assert sorted(named) == [
        "random, same norm",
        "shuffled",
        "vector",
        "vector, on unrelated text",
    ]


def test_runs_that_were_not_done_are_gaps():
    values = VALUES.clone()
    values[0, 2] = torch.nan
    drawn = traces(figures.strength_curve(curve(effect=values)))
    assert (0.0, 1.0, None) in [tuple(trace.y) for trace in drawn]


def test_text_is_escaped():
    figure = figures.strength_curve(curve())
    shown = [figure.layout.title.text, figure.layout.title.subtitle.text]
    shown += [axis.title.text for axis in figure.select_yaxes()]
    assert not [text for text in shown if "<" in text]
