"""Entropy and surprisal are drawn at their positions, with parts, stop line and inserted tokens."""

from dataclasses import replace

import torch

from qwen3lab import figures
from qwen3lab.analysis.uncertainty import Uncertainty

# Positions 10 to 15: <think>, two thoughts, an inserted </think>, two tokens of answer.
RESULT = Uncertainty(
    tokens=("<think>", "a", "<i>", "</think>", "7", "."),
    first=10,
    entropy=torch.tensor([0.0, 0.5, 1.0, 2.0, 0.25, 0.0]),
    surprisal=torch.tensor([0.0, 0.25, 2.0, 9.0, torch.inf, 0.0]),
    thinking=(11, 13),
    answer=(14, 16),
    forced=torch.tensor([False, False, False, True, False, False]),
    stop="budget",
)


def traces() -> dict:
    return {trace.name: trace for trace in figures.uncertainty(RESULT).data}


def test_curves_are_drawn_at_token_positions_without_inserted_or_infinite_values() -> None:
    entropy, surprisal = traces()["entropy"], traces()["surprisal"]
    assert entropy.x == (10, 11, 12, 13, 14, 15)
    assert entropy.y == (0.0, 0.5, 1.0, None, 0.25, 0.0)
    assert surprisal.y == (0.0, 0.25, 2.0, None, None, 0.0)


def test_hover_text_names_each_token_escaped() -> None:
    assert traces()["entropy"].customdata[2] == "12 &lt;i&gt;"


def test_inserted_tokens_are_diamonds_at_their_positions() -> None:
    inserted = traces()["inserted, not sampled"]
    assert inserted.x == (13,)
    assert inserted.marker.symbol == "diamond"
    assert inserted.showlegend


def test_thinking_and_answer_are_shaded_and_the_stop_line_follows_the_thinking() -> None:
    thinking, answer, stop = figures.uncertainty(RESULT).layout.shapes
    assert (thinking.x0, thinking.x1) == (10.5, 12.5)
    assert (answer.x0, answer.x1) == (13.5, 15.5)
    assert (stop.x0, stop.x1) == (12.5, 12.5)
    notes = [note.text for note in figures.uncertainty(RESULT).layout.annotations]
    assert notes == ["thinking", "answer", "thinking budget reached"]


def test_a_reply_cut_by_length_is_marked_at_its_end() -> None:
    cut = figures.uncertainty(replace(RESULT, stop="length"))
    assert cut.layout.shapes[-1].x0 == 15.5
    assert cut.layout.annotations[-1].text == "token limit reached"


def test_a_reply_without_thinking_shades_only_the_answer() -> None:
    plain = figures.uncertainty(replace(RESULT, thinking=(10, 10), answer=(10, 16), stop="natural"))
    assert len(plain.layout.shapes) == 2
    assert plain.layout.annotations[-1].text == "reply ended by the model"
    thought = figures.uncertainty(replace(RESULT, stop="natural"))
    assert thought.layout.annotations[-1].text == "thinking ended by the model"
    unanswered = figures.uncertainty(replace(RESULT, answer=(0, 0), stop="natural"))
    assert unanswered.layout.annotations[-1].text == "reply ended by the model"


def test_an_empty_reply_gives_a_figure_with_a_message() -> None:
    none = torch.zeros(0)
    empty = replace(RESULT, tokens=(), entropy=none, surprisal=none, forced=none.bool())
    assert "no token was generated" in figures.uncertainty(empty).layout.annotations[0].text
