"""Data of the explorer's panes, computed from a recorded chat. Draws nothing."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.map_windows import looks_at
from qwen3lab.analysis.routing import layer_weights
from qwen3lab.figures.theme import PART_COLOURS, visible
from qwen3lab.generation.reply import Chat, ChatStep
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.heatmap import Axis, Heatmap, Span
from qwen3lab.widgets.components.transcript import Chip, Progress
from qwen3lab.widgets.explorers.state import ExplorerState

MASKED = later("masked: key after query")
"""Meaning of the cells above the diagonal of an attention map."""

DENSE = later("This model is dense: it has no experts, so there is no routing to show.")

STOPS = {
    "natural": later("Finished: the model ended its reply."),
    "budget": later("The thinking budget was used up: the early-stop sentence was inserted."),
    "asked": later("You stopped the thinking: the early-stop sentence was inserted."),
    "length": later("Stopped: the reply reached its maximum length."),
    "string": later("Stopped at a stop string."),
    "interrupted": later("Stopped by you. The tokens generated so far are kept."),
}
"""Status line for each stop reason."""

NOTES = {"running": later("running"), "stopping": later("stopping after this token"), "idle": ""}
"""Status line for each status without a finished run."""


def token_spans(recording: Recording) -> tuple[Span, ...]:
    """Prompt, thinking and answer as coloured ranges; empty ones are left out."""
    named = [(name, recording.spans.get(name, (0, 0))) for name in PART_COLOURS]
    end = len(recording)
    return tuple(
        Span(name, start, min(stop, end), PART_COLOURS[name])
        for name, (start, stop) in named
        if min(stop, end) > start
    )


def token_parts(recording: Recording) -> list[str]:
    """The part of each token: prompt, thinking, answer, or empty."""
    parts = [""] * len(recording)
    for span in token_spans(recording):
        parts[span.start : span.end] = [span.name] * (span.end - span.start)
    return parts


def token_axis(recording: Recording, positions: Sequence[int]) -> Axis:
    """Consecutive tokens of a conversation as the axis of a map, with their parts."""
    first, end = positions[0], positions[-1] + 1
    spans = tuple(
        Span(s.name, max(s.start, first) - first, min(s.end, end) - first, s.colour)
        for s in token_spans(recording)
        if s.start < end and s.end > first
    )
    return Axis(tr("token"), tr("token"), tuple(recording.tokens[first:end]), spans, first=first)


def attention_heatmap(recording: Recording, layer: int, head: int) -> Heatmap:
    """One head's attention pattern over the whole conversation."""
    pattern = recording.attention[layer, head]
    future = torch.ones_like(pattern, dtype=torch.bool).triu(1)
    spans = token_spans(recording)
    return Heatmap(
        title=tr("Attention of layer {layer}, head {head}", layer=layer, head=head),
        values=pattern.masked_fill(future, torch.nan),
        rows=Axis(tr("query token"), tr("query"), tuple(recording.tokens), spans),
        columns=Axis(tr("key token"), tr("key"), tuple(recording.tokens), spans),
        value_title=tr("attention weight"),
        nothing=MASKED,
        square=True,
        adapts=True,
    )


def routing_heatmap(recording: Recording, layer: int) -> Heatmap:
    """Router weights of one layer: experts by tokens; `layer` is the model's layer number.

    Raises:
        ValueError: the layer has no experts.
    """
    table = layer_weights(recording, layer).T
    return Heatmap(
        title=tr("Expert routing in layer {layer}", layer=layer),
        values=table.masked_fill(table == 0, torch.nan),
        rows=Axis(tr("expert"), tr("expert"), ("",) * len(table)),
        columns=Axis(tr("token"), tr("token"), tuple(recording.tokens), token_spans(recording)),
        value_title=tr("routing weight"),
        high=float(table.max()),
        nothing=tr("not chosen"),
        adapts=True,
    )


def token_notes(recording: Recording, chat: Chat | None, state: ExplorerState) -> list[str]:
    """Probability, attention and experts of the picked token, one line each; none without one."""
    token = state.token
    if not 0 <= token < len(recording):
        return []
    origin = _origin(chat, token) if chat is not None else ""
    notes = [
        tr(
            "Token {token} “{text}”{origin}",
            token=token,
            text=visible(recording.tokens[token]),
            origin=origin,
        )
    ]
    pattern = looks_at(recording, state.layer, state.head, token)
    keys = ", ".join(
        f"{key} “{visible(recording.tokens[key])}” ({weight:.2f})" for weight, key in _top(pattern)
    )
    notes.append(
        tr(
            "Layer {layer}, head {head} attends most to {keys}",
            layer=state.layer,
            head=state.head,
            keys=keys,
        )
    )
    if recording.routing.layers:
        weights = layer_weights(recording, state.routing_layer)[token]
        experts = ", ".join(f"{expert} ({weight:.2f})" for weight, expert in _top(weights, 8))
        notes.append(
            tr(
                "Layer {layer} routes it to experts {experts}",
                layer=state.routing_layer,
                experts=experts,
            )
        )
    return notes


def _top(values: Float[Tensor, " n"], most: int = 3) -> list[tuple[float, int]]:
    """The largest positive values with their indices, largest first."""
    top = values.topk(min(most, len(values)))
    pairs = zip(top.values.tolist(), top.indices.tolist(), strict=True)
    return [(value, index) for value, index in pairs if value > 0]


def _origin(chat: Chat, token: int) -> str:
    """Whether a token is from the prompt, inserted, or generated with what probability."""
    index = token - chat.spans["prompt"][1]
    if not 0 <= index < len(chat.tokens):
        return tr(" (prompt)")
    if chat.inserted[index]:
        return tr(", inserted by the early stop")
    probability = math.exp(float(chat.logprobs[index]))
    how = tr(", chosen in a branch") if index in chat.chosen else ""
    return tr(
        "{how}: probability {probability:.3f}, entropy {entropy:.3f} nats",
        how=how,
        probability=probability,
        entropy=float(chat.entropy[index]),
    )


def chip(step: ChatStep, text: str, *, chosen: bool = False) -> Chip:
    """The chip of a generated token; `text` is its text, also for special tokens."""
    return Chip(text, step.part, step.entropy, step.logprob, step.forced, chosen)


def progress(state: ExplorerState) -> Progress:
    """Progress of the run, for the bar and the status line below the reply."""
    chat = state.current
    parts = [c.part for c in state.chips if not (c.is_inserted or c.is_mark)]
    # What was asked, until the reply tells.
    thinks = bool(chat.thinking) if chat else state.asked_thinking or "thinking" in parts
    return Progress(
        thinking_tokens=chat.thinking_tokens if chat else parts.count("thinking"),
        answer_tokens=chat.answer_tokens if chat else parts.count("answer"),
        budget=state.asked_budget,
        thinks=thinks,
        is_running=state.status != "idle",
        note=tr(STOPS[chat.stop] if chat else NOTES[state.status]),
    )
