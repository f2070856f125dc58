"""From a recorded chat to what the routing explorer's panes show. Pure: nothing here draws."""

import html
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.choices import effective_experts, margin, router_entropy
from qwen3lab.analysis.expert_output import Writing
from qwen3lab.analysis.routing import expert_load, weights_by_expert
from qwen3lab.analysis.structure import chosen, overlap
from qwen3lab.figures.theme import SEQUENTIAL, visible
from qwen3lab.recording.recording import Recording
from qwen3lab.widgets.components.heatmap import Axis, Heatmap

DIVERGING = "RdBu_r"


def token_heatmap(recording: Recording, token: int) -> Heatmap:
    """The experts of one token in every layer."""
    routing, n_experts = recording.routing, recording.config.n_experts
    tables = [
        weights_by_expert(experts[None, token], weights[None, token], n_experts)[0]
        for experts, weights in zip(routing.experts, routing.weights, strict=True)
    ]
    table = torch.stack(tables)
    return Heatmap(
        title=f"Experts of token {token} in every layer",
        values=table.masked_fill(table == 0, torch.nan),
        rows=_layer_axis(routing.layers),
        columns=Axis("expert", "expert", ("",) * n_experts),
        value_title="weight as applied",
        high=float(table.max()),
        nothing="not chosen",
    )


def load_heatmap(one: Recording, other: Recording | None, name: str = "") -> Heatmap:
    """The load of every expert; or its difference from that in another run."""
    layers, n_experts = one.routing.layers, one.config.n_experts
    values = 100 * _loads(one)
    title, value = "Load of each expert", "share of routed slots (%)"
    low, high, palette = 0.0, float(values.max()), SEQUENTIAL
    if other is not None:
        values = values - 100 * _loads(other)
        title, value = f"Load of this run less that of {name}", "difference (points)"
        high = max(float(values.abs().max()), 1e-6)
        low, palette = -high, DIVERGING
    return Heatmap(
        title=title,
        values=values,
        rows=_layer_axis(layers),
        columns=Axis("expert", "expert", ("",) * n_experts),
        value_title=value,
        low=low,
        high=high,
        nothing="no token",
        palette=palette,
    )


def choice_notes(recording: Recording, token: int, layer: int) -> list[str]:
    """How open the choice was for one token in one layer, a sentence each."""
    row = recording.routing.layers.index(layer)
    logits = recording.routing.logits[row, token]
    experts, weights = recording.routing.experts[row, token], recording.routing.weights[row, token]
    real = experts >= 0
    served = ", ".join(
        f"{int(expert)} ({float(weight):.2f})"
        for expert, weight in zip(experts[real], weights[real], strict=True)
    )
    notes = [f"Layer {layer}: experts {served}"]
    on = logits[logits > -torch.inf]
    share = float(router_entropy(on, relative=True)) if len(on) > 1 else 0.0
    notes.append(
        f"router entropy {float(router_entropy(on)):.2f} nats, {100 * share:.0f} % of its maximum; "
        f"the weights are those of {float(effective_experts(weights[real])):.1f} equal experts"
    )
    if int(real.sum()) < len(on):
        near = float(margin(on, int(real.sum())))
        notes.append(f"margin to the first expert that was refused: {near:.2f} logits")
    return notes


def served_tokens(
    recording: Recording, layer: int, expert: int, *, most: int = 12
) -> list[tuple[int, str, float]]:
    """The tokens of a run that an expert serves with most weight: place, text, weight."""
    row = recording.routing.layers.index(layer)
    table = weights_by_expert(
        recording.routing.experts[row], recording.routing.weights[row], recording.config.n_experts
    )
    best = table[:, expert].topk(min(most, len(recording)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [(place, recording.tokens[place], weight) for place, weight in pairs if weight > 0]


def served_line(recording: Recording, layer: int, expert: int) -> str:
    """How much of a run an expert serves."""
    row = recording.routing.layers.index(layer)
    table = chosen(recording.routing.experts[row], recording.config.n_experts)[:, expert]
    share = recording.config.n_experts_per_token / recording.config.n_experts
    return (
        f"serves {int(table.sum())} of {len(recording)} tokens "
        f"({100 * float(table.float().mean()):.0f} %; uniform would be {100 * share:.0f} %)"
    )


def chips_html(tokens: Sequence[tuple[int | None, str, float]]) -> str:
    """Tokens with their weights, and their place if it is known, as HTML; texts are escaped."""
    if not tokens:
        return '<span class="q3-hint">none</span>'
    return "".join(
        f'<span class="q3-served"{_title(place)}>{html.escape(visible(text))}'
        f"<small>{weight:.2f}</small></span>"
        for place, text, weight in tokens
    )


def _title(place: int | None) -> str:
    return "" if place is None else f' title="token {place}"'


def writing_html(writing: Writing) -> str:
    """What an expert speaks for and against, as HTML."""
    lines = []
    for name, listed in (("raises", writing.raised), ("lowers", writing.lowered)):
        tokens = "".join(
            f'<span class="q3-served">{html.escape(visible(text))}<small>{by:+.1f}</small></span>'
            for text, by in listed
        )
        lines.append(f"<div><b>{name}</b> {tokens}</div>")
    return "".join(lines)


def comparison_note(one: Recording, other: Recording) -> str:
    """How alike two runs use their experts, over all layers."""
    counts = [_slots(recording) for recording in (one, other)]
    found = overlap(*counts, n_permutations=199)
    return (
        f"Over all layers: Jaccard {found.jaccard:.2f}, Jensen-Shannon divergence "
        f"{found.divergence:.3f} nats (p = {found.p_value:.3f}, tokens permuted; neighbours are "
        "not independent, so take it as a hint)"
    )


def _slots(recording: Recording) -> Float[Tensor, "token expert"]:
    """Which expert of which layer serves each token, as one long row per token."""
    n_experts = recording.config.n_experts
    return torch.cat(
        [chosen(experts, n_experts).float() for experts in recording.routing.experts], dim=1
    )


def _loads(recording: Recording) -> Float[Tensor, "layer expert"]:
    n_experts = recording.config.n_experts
    return torch.stack([expert_load(experts, n_experts) for experts in recording.routing.experts])


def _layer_axis(layers: Sequence[int]) -> Axis:
    """Rows of layers; those whose number is not their place say it."""
    names = tuple("" if place == layer else str(layer) for place, layer in enumerate(layers))
    return Axis("layer", "layer", names)
