"""Exercises on attention."""

from dataclasses import fields

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.attention.profile import HeadProfile
from qwen3lab.arguments import Share, checked
from qwen3lab.exercises.verdict import (
    Answer,
    Verdict,
    layer_and_head,
    missing_head,
    whole_number,
)
from qwen3lab.interventions import scaling
from qwen3lab.lab import Lab
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import later, tr

SCORES = [
    field.name
    for field in fields(HeadProfile)
    if field.name not in ("layers", "strongest", "uniform")
]
"""Scores of a `HeadProfile`, by layer and head."""

OTHER_KINDS = {
    "previous": later("it attends to the token before, so it is a previous-token head."),
    "duplicate": later("it attends to the same token further up, so it is a duplicate-token head."),
    "induction": later(
        "it attends to the token after the same one further up, so it is an induction head."
    ),
}
LEAST_OTHER_KIND = 0.3
"""A head with this score of another kind is told so."""


@checked
def best_head(
    scores: HeadProfile, score: str, answer: object, *, least: float = 0.25, hint: int = 0
) -> Verdict:
    """Which head, as (layer, head), has one of the highest values of a score?

    Args:
        scores: of one or several texts.
        score: name of the score, such as "previous".
        answer: layer and head.
        least: this value is enough, even if another head has a higher one. A model without such a
            head has no right answer, and the verdict says so.
        hint: number of a hint to show.
    """
    if score not in SCORES:
        raise ValueError(
            tr("score is {score!r}: choose from {scores}", score=score, scores=", ".join(SCORES))
        )
    values = getattr(scores, score)
    if float(values.max()) < least:
        text = tr(
            "No head of this model has a {score} score of {least:.2f}: take another model.",
            score=score,
            least=least,
        )
        return Verdict(None, text)
    best = divmod(int(values.argmax()), values.shape[1])

    def judge(given: tuple[int, int]) -> Verdict:
        layer, head = given
        if missing := missing_head(layer, head, scores.layers, values.shape[1]):
            return missing
        value = float(values[scores.layers.index(layer), head])
        fact = tr(
            "The {score} score of layer {layer}, head {head} is {value:.2f}",
            score=score,
            layer=layer,
            head=head,
            value=value,
        )
        if value >= least:
            text = tr(
                "{fact}; the highest is {highest:.2f}.", fact=fact, highest=float(values.max())
            )
            return Verdict(True, text)
        why = _why_not_best(scores, score, layer, head, least)
        return Verdict(False, tr("{fact}: {why}", fact=fact, why=why))

    return Answer(f"best_head {score}", answer, hint).judged(
        judge,
        layer_and_head,
        tr("Draw the map of this score for all heads, and look for the brightest cell."),
        tr(
            '`figures.head_map(…, "{score}")` of the scores in this cell: rows are layers, '
            "columns heads.",
            score=score,
        ),
        tr("Layer {layer}, head {head}.", layer=scores.layers[best[0]], head=best[1]),
    )


def _why_not_best(scores: HeadProfile, score: str, layer: int, head: int, least: float) -> str:
    values, place = getattr(scores, score), scores.layers.index(layer)
    swapped = head in scores.layers and layer < values.shape[1]
    if swapped and float(values[scores.layers.index(head), layer]) >= least:
        return tr("you have swapped layer and head: the layer comes first.")
    for kind, said in OTHER_KINDS.items():
        if kind != score and float(getattr(scores, kind)[place, head]) >= LEAST_OTHER_KIND:
            return tr(said)
    return tr("look for {least:.2f} or more.", least=least)


@checked
def sink_heads(
    mass: Float[Tensor, "layer head token"],
    answer: object,
    *,
    least: Share = 0.3,
    without: Float[Tensor, "layer head token"] | None = None,
    hint: int = 0,
) -> Verdict:
    """How many heads give the first token more than a share of their attention?

    Args:
        mass: of `attention.key_mass`.
        answer: number of heads.
        least: the share.
        without: the same of a run without the sink, to recognise its number.
        hint: number of a hint to show.
    """
    above = mass[:, :, 0] > least
    n = int(above.sum())

    def judge(heads: int) -> Verdict:
        if heads == n:
            text = tr(
                "{n} of {all} heads give the first token more than {least:.0%}.",
                n=n,
                all=above.numel(),
                least=least,
            )
            return Verdict(True, text)
        if without is not None and heads == int((without[:, :, 0] > least).sum()):
            return Verdict(False, tr("That is the number of the model as it is, without the sink."))
        if heads == int(above.any(dim=1).sum()):
            return Verdict(False, tr("That many layers have such a head. Count the heads."))
        if heads == above.numel():
            return Verdict(False, tr("That is the number of all heads of the model."))
        few = tr("There are more such heads.") if heads < n else tr("There are fewer such heads.")
        return Verdict(False, few)

    return Answer("sink_heads", answer, hint).judged(
        judge,
        whole_number,
        tr(
            "`sink_mass[layer, head, token]` is a share of attention: which index is the first "
            "token?"
        ),
        tr(
            "`sink_mass[:, :, 0] > {least}` is true for such heads; `.sum()` counts them.",
            least=least,
        ),
        tr("{n} heads.", n=n),
    )


@checked
def reads_token(
    recording: Recording, query: int, key: int, answer: object, *, hint: int = 0
) -> Verdict:
    """Which head, as (layer, head), gives most of its attention from one token to another?

    Args:
        recording: of the text.
        query: position of the token that attends.
        key: position of the token that is attended to.
        answer: layer and head.
        hint: number of a hint to show.
    """
    patterns = torch.stack([recording.attention.pattern(n) for n in recording.attention.layers])
    rows = patterns[:, :, query]
    mass = rows[:, :, key]
    best = divmod(int(mass.argmax()), mass.shape[1])

    def judge(given: tuple[int, int]) -> Verdict:
        layer, head = given
        if missing := missing_head(layer, head, recording.attention.layers, mass.shape[1]):
            return missing
        fact = tr(
            "Layer {layer}, head {head} gives {share:.0%} of its attention to {token}",
            layer=layer,
            head=head,
            share=float(mass[layer, head]),
            token=repr(recording.tokens[key]),
        )
        if given == best:
            return Verdict(True, tr("{fact}, and no head gives it more.", fact=fact))
        most = int(rows[layer, head].argmax())
        if most == key:
            text = tr(
                "{fact}, more than to any other token, but another head gives it more.", fact=fact
            )
            return Verdict(False, text)
        found = repr(recording.tokens[most])
        text = tr("{fact}; most goes to token {place}, {text}.", fact=fact, place=most, text=found)
        return Verdict(False, text)

    return Answer("reads_token", answer, hint).judged(
        judge,
        layer_and_head,
        tr("Which row of a map belongs to the token that writes the answer? Compare all heads."),
        tr(
            "`found.recording.attention[layer, head][query, key]` is one weight: loop over layers "
            "and heads."
        ),
        tr("Layer {layer}, head {head}.", layer=best[0], head=best[1]),
    )


@checked
def needed_head(lab: Lab, question: str, answer: object, *, hint: int = 0) -> Verdict:
    """Without which head, as (layer, head), does the model give another answer?

    Args:
        lab: that is asked, without thinking.
        question: what to ask.
        answer: layer and head that are taken away.
        hint: number of a hint to show.
    """
    config = lab.config

    def asked(*edits: scaling.Scaled) -> str:
        options = {"sampling": lab.suggested.sampling, "seed": 0, "max_new_tokens": 16}
        return lab.chat(question, thinking=False, edits=list(edits), **options).answer.strip()

    def judge(given: tuple[int, int]) -> Verdict:
        layer, head = given
        if missing := missing_head(layer, head, range(config.n_layers), config.n_heads):
            return missing
        before, after = asked(), asked(scaling.head(layer, head))
        fact = tr(
            "With all heads the answer is {before}, without this one {after}",
            before=repr(before),
            after=repr(after),
        )
        if after != before:
            return Verdict(True, tr("{fact}: the model needs it here.", fact=fact))
        text = tr(
            "{fact}: other heads do without it. A head that reads is not always needed.", fact=fact
        )
        return Verdict(False, text)

    def needed() -> str:
        heads = [(n, head) for n in range(config.n_layers) for head in range(config.n_heads)]
        found = next((each for each in heads if judge(each).solved), None)
        return tr("Layer {layer}, head {head}.", layer=found[0], head=found[1]) if found else "–"

    return Answer("needed_head", answer, hint).judged(
        judge,
        layer_and_head,
        tr("To find the number, the model first has to find the word, in an earlier layer."),
        tr(
            "After `from qwen3lab.interventions import scaling`, ask `lab.chat(lookup, "
            "thinking=False, edits=scaling.head(2, 2))`, with other heads, too."
        ),
        needed() if hint == 3 else "",
    )
