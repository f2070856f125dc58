"""Data of the explorer's panes, computed from a recording."""

import threading

import pytest

from qwen3lab.generation.reply import ChatStep
from qwen3lab.widgets.components.transcript import Chip, Transcript
from qwen3lab.widgets.explorers.chat_compute import (
    attention_heatmap,
    chip,
    progress,
    routing_heatmap,
    token_notes,
    token_spans,
)
from qwen3lab.widgets.explorers.state import ExplorerState
from tests.fake_lab import DENSE, MOE, FakeLab, record

TOKENS = list("abcdefgh")


def test_spans_are_clipped_to_the_recording_and_empty_ones_left_out() -> None:
    spans = {"prompt": (0, 3), "thinking": (3, 3), "answer": (4, 12)}
    found = token_spans(record(MOE, TOKENS, spans))
    assert [(span.name, span.start, span.end) for span in found] == [
        ("prompt", 0, 3),
        ("answer", 4, 8),
    ]


def test_an_attention_map_is_square_and_has_no_values_above_the_diagonal() -> None:
    heatmap = attention_heatmap(record(MOE, TOKENS, {}), 2, -1)
    assert heatmap.square
    assert heatmap.values.isnan().sum() == 8 * 7 // 2
    assert heatmap.rows.labels == tuple(TOKENS) == heatmap.columns.labels


def test_a_routing_map_has_a_row_per_expert_and_its_scale_ends_at_the_largest_weight() -> None:
    recording = record(MOE, TOKENS, {})
    heatmap = routing_heatmap(recording, 3)
    assert heatmap.values.shape == (MOE.n_experts, 8)
    assert heatmap.high == recording.routing.weights[1].max()
    with pytest.raises(ValueError, match="layer 0 has no experts"):
        routing_heatmap(recording, 0)


def test_marker_tokens_and_inserted_tokens_are_not_counted_during_a_run() -> None:
    chips = (
        Chip("<think>", "thinking", 0.0, 0.0, False),
        Chip("\n", "thinking", 0.0, 0.0, False),
        Chip("7", "thinking", 0.5, -0.1, False),
        Chip(" Time", "thinking", 0.5, -0.1, True),
        Chip("</think>", "thinking", 0.0, 0.0, True),
        Chip("2", "answer", 0.0, 0.0, False),
    )
    state = ExplorerState(status="running", chips=chips, asked_budget=4, run=1)
    shown = progress(state)
    assert (shown.thinking_tokens, shown.answer_tokens, shown.budget) == (1, 1, 4)
    assert shown.is_running


def test_a_chip_says_how_its_token_was_generated() -> None:
    step = ChatStep(5, "", "thinking", -0.25, 1.5, False)
    forced = ChatStep(5, "", "thinking", -0.25, 1.5, True)
    transcript = Transcript()
    chips = [chip(step, "<b>"), chip(forced, "\n"), chip(step, "<think>")]
    transcript.show(1, "Q", chips, progress(ExplorerState()))
    first, inserted, mark = transcript.reply["chips"]
    assert first == [
        "<b>",
        "<b>",
        "thinking",
        "thinking, entropy 1.500 nats, log-probability -0.250 nats",
        "",
    ]
    assert inserted[1:] == ["↵", "thinking", "thinking, inserted by the early stop", "forced"]
    assert mark[4] == "mark"


def test_a_dense_recording_has_attention_to_show() -> None:
    assert attention_heatmap(record(DENSE, TOKENS, {}), 0, 0).values.shape == (8, 8)


def test_a_picked_token_is_described_by_its_probability_its_attention_and_its_experts() -> None:
    chat = FakeLab().chat("Hi", on_step=lambda step: None, cancel=threading.Event())
    recording = chat.recording
    state = ExplorerState(token=9, layer=2, head=1, routing_layer=3)
    origin, attention, routing = token_notes(recording, chat, state)
    # The third token of the reply: log-probability -0.5, entropy 0.5.
    assert origin == "Token 9 “·three”: probability 0.607, entropy 0.500 nats"
    best = int(recording.attention[2, 1][9].argmax())
    assert attention.startswith(f"Layer 2, head 1 attends most to {best} “")
    experts, weights = recording.routing.experts[1, 9], recording.routing.weights[1, 9]
    pairs = ", ".join(f"{e} ({w:.2f})" for e, w in zip(experts, weights, strict=True))
    assert routing == f"Layer 3 routes it to experts {pairs}"


def test_a_prompt_token_has_no_probability_and_no_pick_has_no_notes() -> None:
    chat = FakeLab(DENSE).chat("Hi", on_step=lambda step: None, cancel=threading.Event())
    recording = chat.recording
    origin, attention = token_notes(recording, chat, ExplorerState(token=2))
    assert origin == "Token 2 “↵” (prompt)"
    assert "Layer 0" in attention
    assert token_notes(recording, chat, ExplorerState(token=-1)) == []
    assert token_notes(recording, chat, ExplorerState(token=99)) == []
    (without_reply, _) = token_notes(recording, None, ExplorerState(token=2))
    assert without_reply == "Token 2 “↵”"
