"""Exercises on expert routing."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from qwen3lab.analysis.choices import router_entropy
from qwen3lab.analysis.corpus import RoutingCorpus
from qwen3lab.analysis.routing import expert_load
from qwen3lab.analysis.specialisation import npmi
from qwen3lab.analysis.structure import co_activation
from qwen3lab.arguments import Count, checked
from qwen3lab.errors import HookError
from qwen3lab.exercises.verdict import Answer, Verdict, missing_expert, whole_number
from qwen3lab.experiments.effects import Text, group_losses
from qwen3lab.interventions.rerouting import Rerouting
from qwen3lab.lab import Lab
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr


@checked
def busiest_expert(
    recording: Recording, layer: int, answer: object, *, shown: int | None = None, hint: int = 0
) -> Verdict:
    """Which expert of a layer is chosen by most tokens of a run?

    Args:
        recording: of the run.
        layer: one with experts.
        answer: number of the expert.
        shown: a layer whose map is shown, to recognise its busiest expert.
        hint: number of a hint to show.
    """
    load = _load(recording, layer)
    best, k, n = int(load.argmax()), recording.config.n_experts_per_token, len(recording)

    def judge(expert: int) -> Verdict:
        if missing := missing_expert(expert, len(load)):
            return missing
        fact = tr(
            "Expert {expert} is chosen by {chosen:.0f} of {tokens} tokens",
            expert=expert,
            chosen=float(load[expert]) * k * n,
            tokens=n,
        )
        if load[expert] == load.max():
            return Verdict(True, tr("{fact}, and no expert by more.", fact=fact))
        if shown is not None and expert == int(_load(recording, shown).argmax()):
            text = tr(
                "{fact} of layer {layer}. It is the busiest one of layer {shown}.",
                fact=fact,
                layer=layer,
                shown=shown,
            )
            return Verdict(False, text)
        if expert == int(_summed_weights(recording, layer).argmax()):
            text = tr(
                "{fact}. It has the largest sum of weights: count the tokens instead.", fact=fact
            )
            return Verdict(False, text)
        return Verdict(False, tr("{fact}; another expert is chosen by more.", fact=fact))

    return Answer("busiest_expert", answer, hint).judged(
        judge,
        whole_number,
        tr("Draw the map of layer {layer}, or count the choices of its router.", layer=layer),
        tr("`rec.routing.layer({layer}).experts` has the choices of each token.", layer=layer),
        tr("It is expert {expert}.", expert=best),
    )


def _load(recording: Recording, layer: int) -> Tensor:
    return expert_load(recording.routing.layer(layer).experts, recording.config.n_experts)


def _summed_weights(recording: Recording, layer: int) -> Tensor:
    routing = recording.routing.layer(layer)
    experts, weights = (
        torch.as_tensor(each).flatten() for each in (routing.experts, routing.weights)
    )
    return torch.bincount(experts.clamp(min=0), weights, recording.config.n_experts)


@checked
def surest_router(recording: Recording, answer: object, *, hint: int = 0) -> Verdict:
    """In which layer is the router most certain: where is its mean entropy lowest?

    Args:
        recording: of a run.
        answer: number of the layer.
        hint: number of a hint to show.
    """
    entropy = {
        layer: float(router_entropy(recording.routing.layer(layer).logits, relative=True).mean())
        for layer in recording.config.moe_layers
    }
    best, least = min(entropy, key=entropy.__getitem__), max(entropy, key=entropy.__getitem__)

    def judge(layer: int) -> Verdict:
        if layer not in entropy:
            text = tr(
                "Layer {layer} has no router: choose from {layers}.",
                layer=layer,
                layers=list(entropy),
            )
            return Verdict(False, text)
        fact = tr(
            "The router of layer {layer} has {share:.0%} of the largest possible entropy",
            layer=layer,
            share=entropy[layer],
        )
        if layer == best:
            return Verdict(True, tr("{fact}, the lowest of all layers.", fact=fact))
        if layer == least:
            text = tr(
                "{fact}, the highest: a high entropy means that it is *uncertain*.", fact=fact
            )
            return Verdict(False, text)
        return Verdict(False, tr("{fact}; another layer has a lower one.", fact=fact))

    return Answer("surest_router", answer, hint).judged(
        judge,
        whole_number,
        tr("The cell above computes it for one layer. Which layers has `lab.config.moe_layers`?"),
        tr("Print `router_entropy(rec.routing.layer(n).logits, relative=True).mean()` in a loop."),
        tr("Layer {layer}.", layer=best),
    )


@checked
def specialist(
    corpus: RoutingCorpus, group: str, layer: int, answer: object, *, hint: int = 0
) -> Verdict:
    """Which expert of a layer has the highest NPMI with a group of tokens?

    Args:
        corpus: of several groups.
        group: one of them.
        layer: one with experts.
        answer: number of the expert.
        hint: number of a hint to show.
    """
    row = corpus.config.moe_layers.index(layer)
    place = corpus.groups.index(group)
    scores = npmi(corpus.slots[row])[place].nan_to_num(-1.0)

    def judge(expert: int) -> Verdict:
        if missing := missing_expert(expert, len(scores)):
            return missing
        fact = tr(
            "Expert {expert} and {group} have an NPMI of {score:.2f}",
            expert=expert,
            group=group,
            score=float(scores[expert]),
        )
        if scores[expert] == scores.max():
            return Verdict(
                True, tr("{fact}, the highest in layer {layer}.", fact=fact, layer=layer)
            )
        if expert == int(corpus.slots[row][place].argmax()):
            text = tr(
                "{fact}. It has the largest share of {group}, but also much of other texts.",
                fact=fact,
                group=group,
            )
            return Verdict(False, text)
        text = tr(
            "{fact}; another expert of layer {layer} has a higher one.", fact=fact, layer=layer
        )
        return Verdict(False, text)

    return Answer("specialist", answer, hint).judged(
        judge,
        whole_number,
        tr("Sort the table by the column `npmi`, not by `share`, and take the right group."),
        tr(
            '`table[(table.layer == layer) & (table.group == "{group}")]` has its rows.',
            group=group,
        ),
        tr("It is expert {expert}.", expert=int(scores.argmax())),
    )


@checked
def partner(
    experts: Int[Tensor, "token k"],
    n_experts: Count,
    expert: int,
    answer: object,
    *,
    hint: int = 0,
) -> Verdict:
    """Which expert is chosen together with one expert most often?

    Args:
        experts: the choices of one layer.
        n_experts: of the layer.
        expert: whose most frequent partner is the answer.
        answer: number of the partner.
        hint: number of a hint to show.
    """
    shares = co_activation(experts, n_experts).clone()
    shares.fill_diagonal_(-1.0)
    best = int(shares[expert].argmax())

    def judge(other: int) -> Verdict:
        if missing := missing_expert(other, n_experts):
            return missing
        if other == expert:
            return Verdict(False, tr("That is the expert itself: look for another one."))
        fact = tr(
            "{share:.0%} of the tokens of expert {expert} are also routed to expert {other}",
            share=float(shares[expert, other]),
            expert=expert,
            other=other,
        )
        if other == best:
            return Verdict(True, tr("{fact}, and no expert has more.", fact=fact))
        if other == int(shares[:, expert].argmax()):
            text = tr(
                "{fact}. Its own tokens go to expert {expert} most: you read the column.",
                fact=fact,
                expert=expert,
            )
            return Verdict(False, text)
        return Verdict(False, tr("{fact}; another expert has more.", fact=fact))

    return Answer("partner", answer, hint).judged(
        judge,
        whole_number,
        tr("The map of co-activation above is of another layer: draw the one of the first layer."),
        tr("`co_activation(first, n_experts)[{expert}]` is its row.", expert=expert),
        tr("It is expert {expert}.", expert=best),
    )


@checked
def hurts_most(
    lab: Lab,
    texts: Sequence[Text],
    group: str,
    answer: object,
    *,
    ratio: float = 2.0,
    hint: int = 0,
) -> Verdict:
    """Which intervention raises the loss on one group of texts far more than on the others?

    Args:
        lab: a mixture of experts.
        texts: of at least two groups.
        group: the group to hurt.
        answer: an intervention.
        ratio: how many times the largest increase of another group is required.
        hint: number of a hint to show.
    """

    def judge(edits: Rerouting) -> Verdict:
        try:
            without = group_losses(lab, texts, edits=edits)
        except HookError as error:
            return Verdict(False, tr("{fact}.", fact=error))
        base = group_losses(lab, texts)
        return _hurt({name: without[name] - base[name] for name in base}, group, ratio)

    return Answer("hurts_most", answer, hint).judged(
        judge,
        _rerouting,
        tr(
            "In the figure of knocked-out experts, look for a row that is dark for one family only."
        ),
        tr("Try single experts of the first layer: `rerouting.off(n, layers=0)`."),
        tr("In `tiny-moe`, `rerouting.off(1, layers=0)` does it."),
    )


def _rerouting(answer: object) -> Rerouting | Verdict:
    if isinstance(answer, Rerouting):
        return answer
    text = tr(
        "{answer} is not a rerouting: give an intervention of qwen3lab.interventions.rerouting, "
        "as in answer=rerouting.off([3, 5], layers=2).",
        answer=repr(answer),
    )
    return Verdict(False, text)


def _hurt(added: dict[str, float], group: str, ratio: float) -> Verdict:
    others = {name: value for name, value in added.items() if name != group}
    worst = max(others, key=lambda name: others[name])
    fact = tr(
        "The loss of {group} rises by {own:.2f} nats per token, that of {worst}, the next, by "
        "{other:.2f}",
        group=group,
        own=added[group],
        worst=worst,
        other=max(others[worst], 0.0),
    )
    if added[group] >= 0.1 and added[group] >= ratio * others[worst]:
        return Verdict(True, tr("{fact}.", fact=fact))
    if others[worst] > max(added[group], 0.1):
        return Verdict(False, tr("{fact}: this hurts {worst} most.", fact=fact, worst=worst))
    text = tr(
        "{fact}: aim for at least 0.1 and {ratio:g} times the rise of the next group.",
        fact=fact,
        ratio=ratio,
    )
    return Verdict(False, text)
