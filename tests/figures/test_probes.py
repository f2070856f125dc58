"""The figure of probes holds their accuracies and intervals, and escapes text."""

import pytest
import torch

from qwen3lab import figures
from qwen3lab.analysis.proportions import Share
from qwen3lab.figures.theme import traces
from qwen3lab.probes import Probes


def made(hooks=("blocks.0.hook_resid_post", "blocks.3.hook_resid_post"), labels=("<b>", "dog")):
    n = len(hooks)
    return Probes(
        "a <i> model",
        hooks,
        labels,
        torch.ones(n, 2, 4),
        torch.zeros(n, 2),
        torch.ones(n, 2),
        accuracy=tuple(Share(60 + 30 * row, 100) for row in range(n)),
        control=tuple(Share(50 + row, 100) for row in range(n)),
        chance=Share(52, 100),
        n_groups=10,
        sparse=False,
    )


def test_accuracy_and_control_of_each_layer_are_drawn_with_intervals():
    probe, control = traces(figures.probe_accuracy(made()))
    assert tuple(probe.x) == ("0", "3") and tuple(probe.y) == (0.6, 0.9)
    assert tuple(control.y) == (0.5, 0.51)
    low, high = Share(90, 100).interval
    assert probe.y[1] - probe.error_y.arrayminus[1] == pytest.approx(low)
    assert probe.y[1] + probe.error_y.array[1] == pytest.approx(high)


def test_hooks_without_layers_of_their_own_are_named():
    hooks = ("blocks.0.hook_resid_pre", "blocks.0.hook_resid_post")
    probe, _ = traces(figures.probe_accuracy(made(hooks)))
    assert tuple(probe.x) == hooks


def test_text_is_escaped():
    figure = figures.probe_accuracy(made())
    assert "<" not in figure.layout.title.text + figure.layout.title.subtitle.text
    assert (
        "and 3 more labels"
        in figures.probe_accuracy(
            made(labels=tuple(f"label {n}" for n in range(9)))
        ).layout.title.text
    )
