"""From a recorded chat to what the explorer's panes show. Pure: nothing here draws."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.routing import layer_weights
from qwen3lab.figures.theme import PART_COLOURS, visible
from qwen3lab.generation.reply import Chat, ChatStep
from qwen3lab.recording.recording import Recording
from qwen3lab.widgets.components.heatmap import Axis, Heatmap, Span
from qwen3lab.widgets.components.transcript import Chip, Progress
from qwen3lab.widgets.explorers.state import ExplorerState

STOPS = {
    "natural": "Stopped by itself.",
    "budget": "The thinking budget was reached: the early-stop sentence was inserted.",
    "asked": "You stopped the thinking: the early-stop sentence was inserted.",
    "length": "Stopped at the longest reply allowed.",
    "string": "Stopped at a stop string.",
    "interrupted": "Stopped by you; what was written is kept.",
}
NOTES = {"running": "running", "stopping": "stopping after this token", "idle": ""}


def token_spans(recording: Recording) -> tuple[Span, ...]:
    """Prompt, thinking and answer as coloured stretches; empty ones are left out."""
    named = [(name, recording.spans.get(name, (0, 0))) for name in PART_COLOURS]
    end = len(recording)
    return tuple(
        Span(name, start, min(stop, end), PART_COLOURS[name])
        for name, (start, stop) in named
        if min(stop, end) > start
    )


def attention_heatmap(recording: Recording, layer: int, head: int) -> Heatmap:
    """One head's pattern over the whole conversation."""
    pattern = recording.attention[layer, head]
    future = torch.ones_like(pattern, dtype=torch.bool).triu(1)
    spans = token_spans(recording)
    return Heatmap(
        title=f"Attention of layer {layer}, head {head}",
        values=pattern.masked_fill(future, torch.nan),
        rows=Axis("query (looking)", "query", tuple(recording.tokens), spans),
        columns=Axis("key (looked at)", "key", tuple(recording.tokens), spans),
        value_title="attention weight",
        nothing="later than the query",
        square=True,
    )


def routing_heatmap(recording: Recording, layer: int) -> Heatmap:
    """One layer's experts by token; `layer` is the layer's own number.

    Raises:
        ValueError: the layer has no experts.
    """
    table = layer_weights(recording, layer).T
    return Heatmap(
        title=f"Expert routing in layer {layer}",
        values=table.masked_fill(table == 0, torch.nan),
        rows=Axis("expert", "expert", ("",) * len(table)),
        columns=Axis("token", "token", tuple(recording.tokens), token_spans(recording)),
        value_title="weight as applied",
        high=float(table.max()),
        nothing="not chosen",
    )


def token_notes(chat: Chat, state: ExplorerState) -> list[str]:
    """What the run has to say about the picked token, a sentence each; none without a pick."""
    recording, token = chat.recording, state.token
    if recording is None or not 0 <= token < len(recording):
        return []
    notes = [f"Token {token} “{visible(recording.tokens[token])}”{_drawn(chat, token)}"]
    pattern = recording.attention[state.layer, state.head][token]
    looks = ", ".join(
        f"{key} “{visible(recording.tokens[key])}” {weight:.2f}" for weight, key in _top(pattern)
    )
    notes.append(f"Head {state.head} of layer {state.layer} looks at {looks}")
    if recording.routing.layers:
        weights = layer_weights(recording, state.routing_layer)[token]
        served = ", ".join(f"{expert} ({weight:.2f})" for weight, expert in _top(weights, 8))
        notes.append(f"Experts in layer {state.routing_layer}: {served}")
    return notes


def _top(values: Float[Tensor, " n"], most: int = 3) -> list[tuple[float, int]]:
    """The largest values above zero with their places, largest first."""
    found = values.topk(min(most, len(values)))
    pairs = zip(found.values.tolist(), found.indices.tolist(), strict=True)
    return [(value, place) for value, place in pairs if value > 0]


def _drawn(chat: Chat, token: int) -> str:
    """How a token of the reply came about; nothing for one of the prompt."""
    index = token - chat.spans["prompt"][1]
    if not 0 <= index < len(chat.tokens):
        return " of the prompt"
    if chat.forced[index]:
        return ", inserted by the early stop"
    chance = math.exp(float(chat.logprobs[index]))
    return f": probability {chance:.3f}, entropy {float(chat.entropy[index]):.3f} nats"


def chip(step: ChatStep, text: str) -> Chip:
    """A token as it came; `text` is what it shows as, also where it adds nothing to the reply."""
    return Chip(text, step.part, step.entropy, step.logprob, step.forced)


def progress(state: ExplorerState) -> Progress:
    """How far the run is, for the bar and the line under the reply."""
    chat = state.current
    drawn = [c.part for c in state.chips if not (c.forced or c.is_mark)]
    return Progress(
        thinking_tokens=chat.thinking_tokens if chat else drawn.count("thinking"),
        answer_tokens=chat.answer_tokens if chat else drawn.count("answer"),
        budget=state.asked_budget,
        thinks=state.asked_thinking,
        is_running=state.status != "idle",
        note=STOPS[chat.stop] if chat else NOTES[state.status],
    )
