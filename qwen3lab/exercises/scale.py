"""Exercises on an atlas of experts, and on which experts a model can do without."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.analysis.specialisation import npmi
from qwen3lab.analysis.topic_and_type import TopicAndType
from qwen3lab.arguments import checked
from qwen3lab.corpus import CorpusRun, slots_of
from qwen3lab.exercises.verdict import Answer, Verdict, missing_expert, whole_number
from qwen3lab.experiments.effects import Text, group_losses
from qwen3lab.experiments.pruning import PruningCurve, best_experts, prune
from qwen3lab.lab import Lab
from qwen3lab.translation import tr


@checked
def expert_of_label(
    run: CorpusRun, layer: int, column: str, label: str, answer: object, *, hint: int = 0
) -> Verdict:
    """Which expert of a layer is most strongly associated with a label?

    Args:
        run: with counts by this label.
        layer: one with experts.
        column: of the label, such as "role".
        label: its name.
        answer: number of the expert.
        hint: number of a hint to show.
    """
    names, slots, _ = slots_of(run, column)
    own, row = slots[run.config.moe_layers.index(layer)], names.index(label)
    scores = npmi(own)[row].nan_to_num(-1.0)
    best = int(scores.argmax())

    def judge(expert: int) -> Verdict:
        if missing := missing_expert(expert, len(scores)):
            return missing
        fact = tr(
            "Expert {expert} and {label} have an npmi of {npmi:.2f}",
            expert=expert,
            label=label,
            npmi=float(scores[expert]),
        )
        if expert == best:
            return Verdict(True, tr("{fact}, the highest of this layer.", fact=fact))
        return Verdict(
            False, tr("{fact}: {why}", fact=fact, why=_why_not_associated(own, row, expert))
        )

    return Answer("expert_of_label", answer, hint).judged(
        judge,
        whole_number,
        tr(
            "In the map, look along the row of layer {layer}: which cells name the label?",
            layer=layer,
        ),
        tr("Of the cells that name it, the brightest has the largest npmi. Point at it."),
        tr("It is expert {expert}.", expert=best),
    )


def _why_not_associated(slots: Tensor, row: int, expert: int) -> str:
    if expert == int(slots.sum(dim=0).argmax()):
        return tr("it has the highest load, so it gets many tokens of every kind.")
    if expert == int(slots[row].argmax()):
        return tr("it gets most of these tokens, but it gets even more of the others.")
    return tr("another expert of this layer has a higher one.")


@checked
def nearest_expert(
    run: CorpusRun, layer: int, expert: int, answer: object, *, hint: int = 0
) -> Verdict:
    """Which other expert gets an expert's tokens most above its share of all tokens?

    Args:
        run: with counts.
        layer: one with experts.
        expert: whose tokens are meant.
        answer: number of the other expert.
        hint: number of a hint to show.
    """
    together = run.co_activation(layer)
    above, shares = _above(together, expert, run.total("routed"))
    best = int(above.argmax())

    def judge(other: int) -> Verdict:
        if missing := missing_expert(other, len(above)):
            return missing
        if other == expert:
            return Verdict(False, tr("That is the expert itself: look for another one."))
        share = float(shares[other])
        fact = tr(
            "Expert {other} gets {share:.0%} of its tokens, and {all:.0%} of all tokens",
            other=other,
            share=share,
            all=share - float(above[other]),
        )
        if other == best:
            return Verdict(True, tr("{fact}: the largest difference.", fact=fact))
        if other == int(shares.argmax()):
            text = tr(
                "{fact}: the largest share, but it gets many tokens of every expert.", fact=fact
            )
            return Verdict(False, text)
        return Verdict(False, tr("{fact}: another one has a larger difference.", fact=fact))

    return Answer("nearest_expert", answer, hint).judged(
        judge,
        whole_number,
        tr("Compare two shares: of the tokens of this expert, and of all tokens."),
        tr(
            "`atlas[{layer}, {expert}].together` lists them, the largest difference first.",
            layer=layer,
            expert=expert,
        ),
        tr("It is expert {expert}.", expert=best),
    )


def _above(
    together: Int[Tensor, "expert other"], expert: int, n_tokens: int
) -> tuple[Float[Tensor, " other"], Float[Tensor, " other"]]:
    """Of one expert's tokens, the share of each other expert, above chance and as it is."""
    own = together.diagonal()
    shares = together[expert] / own[expert].clamp(min=1)
    above = shares - own / max(n_tokens, 1)
    shares, above = shares.clone(), above.clone()
    shares[expert] = above[expert] = -torch.inf
    return above, shares


@checked
def layer_of_topic(found: TopicAndType, answer: object, *, hint: int = 0) -> Verdict:
    """In which layer do experts tell most about the topic, among tokens of one type?

    Args:
        found: from `corpus.topic_and_type`.
        answer: number of the layer.
        hint: number of a hint to show.
    """
    values = dict(zip(found.layers, found.topic_within_type.tolist(), strict=True))
    alone = dict(zip(found.layers, found.topic.tolist(), strict=True))
    best = max(values, key=lambda layer: values[layer])

    def judge(layer: int) -> Verdict:
        if layer not in values:
            text = tr(
                "Layer {layer} has no experts: those with experts are {layers}.",
                layer=layer,
                layers=_listed(found.layers),
            )
            return Verdict(False, text)
        fact = tr(
            "Among tokens of one {kind}, experts of layer {layer} tell {value:.3f} nats",
            kind=found.names[1],
            layer=layer,
            value=values[layer],
        )
        if layer == best:
            return Verdict(True, tr("{fact}, the most of all layers.", fact=fact))
        if layer == max(alone, key=lambda each: alone[each]):
            text = tr(
                "{fact}: it leads only as long as the {kind} is not taken into account.",
                fact=fact,
                kind=found.names[1],
            )
            return Verdict(False, text)
        return Verdict(False, tr("{fact}: another layer tells more.", fact=fact))

    return Answer("layer_of_topic", answer, hint).judged(
        judge,
        whole_number,
        tr("Which line of the figure is about the family while the role is known?"),
        tr("`found.to_pandas()` has the values: sort it by `topic_within_type`."),
        tr("It is layer {layer}.", layer=best),
    )


@checked
def experts_needed(
    curve: PruningCurve, score: str, answer: object, *, most: float, hint: int = 0
) -> Verdict:
    """With how few experts of each layer does the loss stay at or below a limit?

    Args:
        curve: of several numbers of experts.
        score: that chose the experts.
        answer: the number of experts that stay.
        most: the limit, in nats per token; the mean over the groups of texts.
        hint: number of a hint to show.
    """
    losses = {
        point.n_experts: sum(point.loss.values()) / len(point.loss)
        for point in curve.points
        if point.score == score
    }
    enough = [n for n, loss in losses.items() if loss <= most]

    def judge(n: int) -> Verdict:
        if n not in losses:
            text = tr(
                "{n} is not a number of this curve: choose from {numbers}.",
                n=n,
                numbers=_listed(losses),
            )
            return Verdict(False, text)
        fact = tr("With {n} experts the loss is {loss:.2f}", n=n, loss=losses[n])
        if losses[n] > most:
            text = tr("{fact}, above {most:g}: more experts must stay.", fact=fact, most=most)
            return Verdict(False, text)
        if n > min(enough):
            return Verdict(False, tr("{fact}, but fewer are enough.", fact=fact))
        text = tr(
            "{fact}, and with any smaller number of the curve it is above {most:g}.",
            fact=fact,
            most=most,
        )
        return Verdict(True, text)

    last = (
        tr("{n} experts are enough.", n=min(enough))
        if enough
        else tr("No number of this curve is enough.")
    )
    return Answer("experts_needed", answer, hint).judged(
        judge,
        whole_number,
        tr("Draw it: `figures.pruning_curve(fine)`. Where does the line cross the limit?"),
        tr("`fine.to_pandas()` has a row for each group: take the mean over the groups."),
        last,
    )


@checked
def best_half_for(
    lab: Lab,
    texts: Sequence[Text],
    group: str,
    usual: Float[Tensor, "layer expert"],
    answer: object,
    *,
    hint: int = 0,
) -> Verdict:
    """Which scores choose a half of the experts that is better for one group of texts?

    Args:
        lab: a mixture of experts.
        texts: in groups.
        group: that the model is made for.
        usual: the scores to compare with.
        answer: scores by layer and expert, as a tensor; those with the largest ones stay.
        hint: number of a hint to show.
    """
    own = [text for text in texts if text.group == group]

    def judge(scores: Tensor) -> Verdict:
        loss, before = (_loss_of_half(lab, own, each) for each in (scores, usual))
        fact = tr(
            "The loss of {group} is {loss:.2f} with your half, and {before:.2f} with the usual",
            group=group,
            loss=loss,
            before=before,
        )
        if loss < before:
            return Verdict(True, tr("{fact}.", fact=fact))
        if torch.equal(scores, usual.to(scores.dtype)):
            return Verdict(False, tr("{fact}: these are the usual scores.", fact=fact))
        return Verdict(False, tr("{fact}: it must be lower.", fact=fact))

    return Answer("best_half_for", answer, hint).judged(
        judge,
        lambda given: _scores(given, tuple(usual.shape)),
        tr("The scores above come from all families: their mean hides what one of them needs."),
        tr("Counts by family are scores, too: an expert that gets its tokens is needed by it."),
        tr(
            "`names, slots, _ = corpus.slots_of(run, 'family')`, then "
            "`answer=slots[:, names.index('arithmetic')]`."
        ),
    )


def _loss_of_half(lab: Lab, texts: Sequence[Text], scores: Tensor) -> float:
    n = max(lab.config.n_experts // 2, lab.config.n_experts_per_token)
    pruned = prune(lab, best_experts(scores.float(), lab.config.moe_layers, n))
    return sum(group_losses(pruned, texts, progress=False).values())


def _scores(answer: object, shape: tuple[int, ...]) -> Tensor | Verdict:
    """The answer as scores, or the verdict on one that is none."""
    try:
        found = torch.as_tensor(answer)
    except (TypeError, ValueError, RuntimeError):
        found = None
    if found is not None and tuple(found.shape) == shape and bool(found.isfinite().all()):
        return found
    text = tr(
        "These are no scores: give a tensor of {layers} layers and {experts} experts.",
        layers=shape[0],
        experts=shape[1],
    )
    return Verdict(False, text)


def _listed(numbers: Sequence[int] | dict[int, float]) -> str:
    return ", ".join(map(str, sorted(numbers)))
