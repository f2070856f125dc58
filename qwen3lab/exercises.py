"""Checks of exercise answers; each check returns a verdict with a reason in one sentence."""

import html
import operator
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.attention.profile import HeadProfile
from qwen3lab.analysis.budgets import curve
from qwen3lab.analysis.corpus import RoutingCorpus
from qwen3lab.analysis.routing import expert_load
from qwen3lab.analysis.specialisation import npmi
from qwen3lab.arguments import checked, is_whole
from qwen3lab.errors import HookError
from qwen3lab.experiments.effects import Text, group_losses
from qwen3lab.interventions.rerouting import Rerouting
from qwen3lab.lab import Lab
from qwen3lab.recording.recording import Recording
from qwen3lab.thinking import Convergence, Importance, Sweep

SCORES = [
    field.name
    for field in fields(HeadProfile)
    if field.name not in ("layers", "strongest", "uniform")
]
"""Scores of a `HeadProfile`, by layer and head."""
NO_ANSWER = "No answer yet: replace None with your answer and run the cell again."
_EXPECTED_EDIT = (
    "an intervention of qwen3lab.interventions.rerouting, as in "
    "answer=rerouting.off([3, 5], layers=2)"
)


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and why.

    Attributes:
        solved: True, False, or None without an answer.
        reason: one sentence.
    """

    solved: bool | None
    reason: str

    def __repr__(self) -> str:
        return f"{self._mark()} {self.reason}"

    def _repr_html_(self) -> str:
        hue = {True: "#009e73", False: "#d55e00", None: "#6a737d"}[self.solved]
        # Mixed with the page's text colour for contrast on light and dark pages.
        colour = f"color-mix(in srgb, {hue} 65%, currentcolor)"
        return f'<b style="color: {colour}">{self._mark()}</b> {html.escape(self.reason)}'

    def _mark(self) -> str:
        return {True: "Right.", False: "Not yet.", None: "…"}[self.solved]


@checked
def busiest_expert(recording: Recording, layer: int, answer: object) -> Verdict:
    """Which expert of a layer is chosen by most tokens of a run?"""
    answer = _number(answer)
    if isinstance(answer, Verdict):
        return answer
    load = expert_load(recording.routing.layer(layer).experts, recording.config.n_experts)
    if not 0 <= answer < len(load):
        return Verdict(False, _no_expert(layer, answer, len(load)))
    tokens = len(recording)
    chosen = load[answer] * recording.config.n_experts_per_token * tokens
    fact = f"Expert {answer} is chosen by {chosen:.0f} of {tokens} tokens"
    if load[answer] == load.max():
        return Verdict(True, f"{fact}, and no expert by more.")
    return Verdict(False, f"{fact}; another expert is chosen by more.")


@checked
def specialist(corpus: RoutingCorpus, group: str, layer: int, answer: object) -> Verdict:
    """Which expert of a layer has the highest NPMI with a group of tokens?"""
    answer = _number(answer)
    if isinstance(answer, Verdict):
        return answer
    scores = npmi(corpus.slots[corpus.config.moe_layers.index(layer)])[corpus.groups.index(group)]
    if not 0 <= answer < len(scores):
        return Verdict(False, _no_expert(layer, answer, len(scores)))
    fact = f"Expert {answer} and {group} have an NPMI of {scores[answer]:.2f}"
    if scores[answer] == scores.nan_to_num(-1.0).max():
        return Verdict(True, f"{fact}, the highest in layer {layer}.")
    return Verdict(False, f"{fact}; another expert of layer {layer} has a higher one.")


def _no_expert(layer: int, expert: int, n_experts: int) -> str:
    return f"Expert {expert} does not exist: layer {layer} has experts 0 to {n_experts - 1}."


@checked
def hurts_most(
    lab: Lab, texts: Sequence[Text], group: str, answer: object, *, ratio: float = 2.0
) -> Verdict:
    """Which intervention raises the loss on one group of texts far more than on the others?

    Args:
        lab: a mixture of experts.
        texts: of at least two groups.
        group: the group to hurt.
        answer: an intervention.
        ratio: how many times the largest increase of another group is required.
    """
    if answer is None:
        return Verdict(None, NO_ANSWER)
    if not isinstance(answer, Rerouting):
        return Verdict(False, f"{answer!r} is not a rerouting: give {_EXPECTED_EDIT}.")
    try:
        without = group_losses(lab, texts, edits=answer)
    except HookError as error:
        return Verdict(False, f"{error}.")
    base = group_losses(lab, texts)
    added = {name: without[name] - base[name] for name in base}
    others = {name: value for name, value in added.items() if name != group}
    worst = max(others, key=lambda name: others[name])
    fact = (
        f"The loss of {group} rises by {added[group]:.2f} nats per token, "
        f"that of {worst}, the next, by {max(others[worst], 0.0):.2f}"
    )
    if added[group] >= 0.1 and added[group] >= ratio * others[worst]:
        return Verdict(True, f"{fact}.")
    return Verdict(
        False, f"{fact}: aim for at least 0.1 and {ratio:g} times the rise of the next group."
    )


@checked
def budget_needed(sweep: Sweep, level: str, answer: object, *, share: float = 0.9) -> Verdict:
    """Which is the smallest budget with which `share` of a level's problems are solved?"""
    answer = _number(answer)
    if isinstance(answer, Verdict):
        return answer
    points = {point.budget: point.right for point in curve(sweep, level=level).points}
    if answer not in points:
        return Verdict(
            False, f"{answer} is not a budget of the sweep: choose from {sweep.budgets}."
        )
    fact = f"With {answer} thinking tokens, {points[answer].value:.0%} of level {level} are correct"
    if points[answer].value < share:
        return Verdict(False, f"{fact}: look for at least {share:.0%}.")
    smaller = [b for b in points if b is not None and b < answer and points[b].value >= share]
    if smaller:
        return Verdict(False, f"{fact}, but a smaller budget is enough.")
    return Verdict(True, f"{fact}, and with every smaller budget fewer than {share:.0%}.")


@checked
def settles(found: Convergence, answer: object) -> Verdict:
    """After how many thinking tokens does the answer stop changing?"""
    answer = _number(answer)
    if isinstance(answer, Verdict):
        return answer
    if answer not in found.points:
        return Verdict(
            False, f"There is no answer after {answer} tokens: choose from {found.points}."
        )
    if answer == found.settled:
        return Verdict(True, f"From there on the answer stays {found.favourites[-1]!r}.")
    direction = "earlier" if answer > found.settled else "later"
    here = found.favourites[found.points.index(answer)]
    return Verdict(False, f"After {answer} tokens the answer is {here!r}; it settles {direction}.")


@checked
def crucial_part(found: Importance, answer: object) -> Verdict:
    """The removal of which part of the thinking changes the answer most?"""
    answer = _number(answer)
    if isinstance(answer, Verdict):
        return answer
    if not 0 <= answer < len(found.parts):
        return Verdict(
            False, f"Part {answer} does not exist: the parts are 0 to {len(found.parts) - 1}."
        )
    changed = f"Without part {answer}, {found.distance[answer]:.0%} of the answers change"
    most = max(value for value in found.distance if value == value)
    if found.distance[answer] == most:
        return Verdict(True, f"{changed}, and no other part changes more.")
    return Verdict(False, f"{changed}; another part changes more.")


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
    answer = _pair(answer)
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
    answer = _number(answer)
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
    answer = _pair(answer)
    if isinstance(answer, Verdict):
        return answer
    layer, head = answer
    if not (0 <= layer < mass.shape[0] and 0 <= head < mass.shape[1]):
        return Verdict(False, f"Layer {layer}, head {head} does not exist.")
    fact = f"Head {head} of layer {layer} gives it {float(mass[layer, head]):.0%} of its attention"
    if mass[layer, head] == mass.max():
        return Verdict(True, f"{fact}, and no head gives it more.")
    return Verdict(False, f"{fact}; another head gives it more.")


def _number(answer: Any) -> int | Verdict:
    """The answer as an integer, or the verdict on an answer that is not one."""
    if answer is None:
        return Verdict(None, NO_ANSWER)
    if is_whole(answer):
        return operator.index(answer)
    return Verdict(False, f"{answer!r} is not an integer: give one, as in answer=3.")


def _pair(answer: Any) -> tuple[int, int] | Verdict:
    """The answer as layer and head, or the verdict on an answer that is not a pair."""
    if answer is None:
        return Verdict(None, NO_ANSWER)
    if isinstance(answer, list | tuple) and len(answer) == 2 and all(map(is_whole, answer)):
        return operator.index(answer[0]), operator.index(answer[1])
    return Verdict(False, f"{answer!r} is not a head: give layer and head, as in answer=(3, 1).")
