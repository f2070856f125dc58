"""The history of a training run is drawn by step."""

from dataclasses import replace

import pytest
import torch

from qwen3lab import figures
from qwen3lab.analysis.specialisation import Information
from qwen3lab.tiny.growth import Snapshot


def look(step, *, surplus, induction, experts):
    heads = {"induction": torch.tensor([[0.0, induction], [0.1, 0.0]])}
    information = [Information(0.1 * step, (0.01, 0.02)), Information(0.0, (0.0, 0.03))]
    chosen = torch.tensor([experts, experts])
    size = (step, float(step), 10 * step)
    return Snapshot(*size, {"lists": surplus}, heads, information, chosen, layers=(1, 3))


HISTORY = [
    look(0, surplus=3.0, induction=0.2, experts=[[0, 1], [2, 3]]),
    look(5, surplus=0.5, induction=0.9, experts=[[0, 2], [2, 3]]),
]


def lines(history):
    return {(trace.legend, trace.name): trace for trace in figures.growth(history).data}


def test_each_panel_shows_its_values_by_step() -> None:
    drawn = lines(HISTORY)
    assert drawn["legend", "lists"].x == (0, 5)
    assert drawn["legend", "lists"].y == (3.0, 0.5)
    assert drawn["legend2", "induction"].y == pytest.approx((0.2, 0.9))
    assert drawn["legend3", "layer 1"].y == (0.0, 0.5)
    # Of the last choices (0, 2) and (2, 3), three of four were made before.
    assert drawn["legend4", "layer 3"].y == (0.75, 1.0)


def test_the_maximum_of_the_shuffles_is_drawn_with_the_information() -> None:
    chance = [trace for trace in figures.growth(HISTORY).data if trace.name is None]
    assert [trace.y for trace in chance] == [(0.02, 0.02), (0.03, 0.03)]


def test_every_panel_has_a_title_and_its_axes_have_units() -> None:
    layout = figures.growth(HISTORY).layout
    assert len(layout.annotations) == 4
    titles = [layout[f"yaxis{n}"].title.text for n in ("", 2, 3, 4)]
    assert titles == ["nats per token", "score", "nats", "share"]


def test_a_dense_model_has_two_panels() -> None:
    dense = [replace(look, information=[], experts=None) for look in HISTORY]
    figure = figures.growth(dense, log_steps=True)
    assert [note.text for note in figure.layout.annotations] == [
        "<b>Excess loss</b>",
        "<b>Best head of each kind</b>",
    ]
    assert figure.layout.xaxis.type == "log" and figure.layout.xaxis.tickvals == (0, 5)


def test_an_empty_history_is_refused() -> None:
    with pytest.raises(ValueError, match="the history is empty: expected at least one snapshot"):
        figures.growth([])
