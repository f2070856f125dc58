"""Data of the routing explorer's panes, computed from a recorded chat. Draws nothing."""

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
from qwen3lab.translation import tr
from qwen3lab.widgets.components.heatmap import Axis, Heatmap

DIVERGING = "RdBu_r"


def experts_by_layer_heatmap(recording: Recording, token: int) -> Heatmap:
    """Router weights of one token: layers by experts."""
    routing, n_experts = recording.routing, recording.config.n_experts
    tables = [
        weights_by_expert(experts[None, token], weights[None, token], n_experts)[0]
        for experts, weights in zip(routing.experts, routing.weights, strict=True)
    ]
    table = torch.stack(tables)
    return Heatmap(
        title=tr("Experts of token {token} in every layer", token=token),
        values=table.masked_fill(table == 0, torch.nan),
        rows=layer_axis(routing.layers),
        columns=Axis(tr("expert"), tr("expert"), ("",) * n_experts),
        value_title=tr("routing weight"),
        high=float(table.max()),
        nothing=tr("not chosen"),
    )


def load_heatmap(one: Recording, other: Recording | None, name: str = "") -> Heatmap:
    """The load of every expert; with another run, the difference of the loads.

    Args:
        one: recording of the run.
        other: recording of the run to compare with, or None.
        name: name of that run.
    """
    layers, n_experts = one.routing.layers, one.config.n_experts
    values = 100 * _loads(one)
    title, value = tr("Load of each expert"), tr("load (%)")
    low, high, palette = 0.0, float(values.max()), SEQUENTIAL
    if other is not None:
        values = values - 100 * _loads(other)
        title, value = tr("Load: this run minus {name}", name=name), tr("difference (points)")
        high = max(float(values.abs().max()), 1e-6)
        low, palette = -high, DIVERGING
    return Heatmap(
        title=title,
        values=values,
        rows=layer_axis(layers),
        columns=Axis(tr("expert"), tr("expert"), ("",) * n_experts),
        value_title=value,
        low=low,
        high=high,
        nothing=tr("no tokens"),
        palette=palette,
        adapts=True,
    )


def router_notes(recording: Recording, token: int, layer: int) -> list[str]:
    """Experts, router entropy and margin of one token in one layer, one line each."""
    row = recording.routing.layers.index(layer)
    logits = recording.routing.logits[row, token]
    experts, weights = recording.routing.experts[row, token], recording.routing.weights[row, token]
    real = experts >= 0
    choices = ", ".join(
        f"{int(expert)} ({float(weight):.2f})"
        for expert, weight in zip(experts[real], weights[real], strict=True)
    )
    notes = [tr("Layer {layer}: experts {choices}", layer=layer, choices=choices)]
    enabled = logits[logits > -torch.inf]
    share = float(router_entropy(enabled, relative=True)) if len(enabled) > 1 else 0.0
    notes.append(
        tr(
            "router entropy: {entropy:.2f} nats ({percent:.0f}% of the "
            "maximum); effective number of experts: {n:.1f}",
            entropy=float(router_entropy(enabled)),
            percent=100 * share,
            n=float(effective_experts(weights[real])),
        )
    )
    if int(real.sum()) < len(enabled):
        gap = float(margin(enabled, int(real.sum())))
        notes.append(tr("margin to the best expert not chosen: {gap:.2f} logits", gap=gap))
    return notes


def routed_tokens(
    recording: Recording, layer: int, expert: int, *, most: int = 12
) -> list[tuple[int, str, float]]:
    """The tokens routed to an expert with the largest weights: position, text, weight."""
    row = recording.routing.layers.index(layer)
    table = weights_by_expert(
        recording.routing.experts[row], recording.routing.weights[row], recording.config.n_experts
    )
    best = table[:, expert].topk(min(most, len(recording)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [(index, recording.tokens[index], weight) for index, weight in pairs if weight > 0]


def routed_summary(recording: Recording, layer: int, expert: int) -> str:
    """Number and share of a run's tokens that are routed to an expert."""
    row = recording.routing.layers.index(layer)
    is_routed = chosen(recording.routing.experts[row], recording.config.n_experts)[:, expert]
    uniform = recording.config.n_experts_per_token / recording.config.n_experts
    return tr(
        "{n} of {all} tokens are routed to it ({percent:.0f}%; uniform routing: {uniform:.0f}%)",
        n=int(is_routed.sum()),
        all=len(recording),
        percent=100 * float(is_routed.float().mean()),
        uniform=100 * uniform,
    )


def chips_html(tokens: Sequence[tuple[int | None, str, float]]) -> str:
    """Tokens with weights as HTML, with the position as tooltip if known; texts are escaped."""
    if not tokens:
        return f'<span class="q3-hint">{tr("none")}</span>'
    return "".join(
        f'<span class="q3-served"{_tooltip(position)}>{html.escape(visible(text))}'
        f"<small>{weight:.2f}</small></span>"
        for position, text, weight in tokens
    )


def _tooltip(position: int | None) -> str:
    return "" if position is None else f' title="{tr("token {position}", position=position)}"'


def output_html(writing: Writing) -> str:
    """The tokens whose logits an expert raises and lowers most, as HTML; texts are escaped."""
    lines = []
    for name, effects in ((tr("raises"), writing.raised), (tr("lowers"), writing.lowered)):
        tokens = "".join(
            f'<span class="q3-served">{html.escape(visible(text))}<small>{by:+.1f}</small></span>'
            for text, by in effects
        )
        lines.append(f"<div><b>{name}</b> {tokens}</div>")
    return "".join(lines)


def comparison_note(one: Recording, other: Recording) -> str:
    """Similarity of the expert choices of two runs, over all layers."""
    choices = [_choices(recording) for recording in (one, other)]
    result = overlap(*choices, n_permutations=199)
    return tr(
        "Over all layers: Jaccard index {jaccard:.2f}, Jensen-Shannon divergence "
        "{divergence:.3f} nats (p = {p_value:.3f}, from permuted tokens; only a "
        "hint, because neighbouring tokens are not independent)",
        jaccard=result.jaccard,
        divergence=result.divergence,
        p_value=result.p_value,
    )


def _choices(recording: Recording) -> Float[Tensor, "token expert"]:
    """1 for each expert of each layer that a token is routed to, 0 for the others."""
    n_experts = recording.config.n_experts
    return torch.cat(
        [chosen(experts, n_experts).float() for experts in recording.routing.experts], dim=1
    )


def _loads(recording: Recording) -> Float[Tensor, "layer expert"]:
    n_experts = recording.config.n_experts
    return torch.stack([expert_load(experts, n_experts) for experts in recording.routing.experts])


def layer_axis(layers: Sequence[int]) -> Axis:
    """One row per layer; a row has a label if its index is not the layer's number."""
    labels = tuple("" if row == layer else str(layer) for row, layer in enumerate(layers))
    return Axis(tr("layer"), tr("layer"), labels)
