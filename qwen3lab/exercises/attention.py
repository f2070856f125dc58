"""Exercises on attention."""

from collections.abc import Sequence
from dataclasses import fields

from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.attention.profile import HeadProfile
from qwen3lab.arguments import checked
from qwen3lab.exercises.verdict import Verdict, head_of, number_of

SCORES = [
    field.name
    for field in fields(HeadProfile)
    if field.name not in ("layers", "strongest", "uniform")
]
"""Scores of a `HeadProfile`, by layer and head."""


@checked
def best_head(scores: HeadProfile, score: str, answer: object, *, least: float = 0.5) -> Verdict:
    """Which head, as (layer, head), has one of the highest values of a score?

    Args:
        scores: of one or several texts.
        score: name of the score, such as "previous".
        answer: layer and head.
        least: this value is enough, even if another head has a higher one.
    """
    if score not in SCORES:
        raise ValueError(f"score is {score!r}: choose from {', '.join(SCORES)}")
    answer = head_of(answer)
    if isinstance(answer, Verdict):
        return answer
    values = getattr(scores, score)
    layer, head = answer
    if layer not in scores.layers or not 0 <= head < values.shape[1]:
        return Verdict(False, f"Layer {layer}, head {head} does not exist.")
    value, highest = float(values[scores.layers.index(layer), head]), float(values.max())
    fact = f"Head {head} of layer {layer} has {value:.2f}"
    if value >= min(least, highest):
        return Verdict(True, f"{fact}; the highest is {highest:.2f}.")
    return Verdict(False, f"{fact}: look for a head with {min(least, highest):.2f} or more.")


@checked
def sink_token(mass: Sequence[float], answer: object) -> Verdict:
    """Which token is the attention sink, the token that receives most attention?

    Args:
        mass: for each token, its mean attention from the queries that see it, from 0 to 1.
        answer: position of the token.
    """
    answer = number_of(answer)
    if isinstance(answer, Verdict):
        return answer
    if not 0 <= answer < len(mass):
        return Verdict(
            False, f"Token {answer} does not exist: the text has tokens 0 to {len(mass) - 1}."
        )
    fact = f"Token {answer} receives {mass[answer]:.0%} of the attention of the queries that see it"
    if mass[answer] == max(mass):
        return Verdict(True, f"{fact}, and no token receives more.")
    return Verdict(False, f"{fact}; another token receives more.")


@checked
def reads_most(mass: Float[Tensor, "layer head"], answer: object) -> Verdict:
    """Which head, as (layer, head), gives most attention to a part of the text?

    Args:
        mass: attention that each head gives to the part, as a share from 0 to 1.
        answer: layer and head.
    """
    answer = head_of(answer)
    if isinstance(answer, Verdict):
        return answer
    layer, head = answer
    if not (0 <= layer < mass.shape[0] and 0 <= head < mass.shape[1]):
        return Verdict(False, f"Layer {layer}, head {head} does not exist.")
    fact = f"Head {head} of layer {layer} gives it {float(mass[layer, head]):.0%} of its attention"
    if mass[layer, head] == mass.max():
        return Verdict(True, f"{fact}, and no head gives it more.")
    return Verdict(False, f"{fact}; another head gives it more.")
