"""Exercises that check themselves: an answer goes in, a verdict in one sentence comes out."""

import html
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.attention.profile import HeadProfile
from qwen3lab.analysis.budgets import curve
from qwen3lab.analysis.corpus import RoutingCorpus
from qwen3lab.analysis.routing import expert_load
from qwen3lab.analysis.specialisation import npmi
from qwen3lab.errors import HookError
from qwen3lab.experiments.effects import Text, group_losses
from qwen3lab.interventions.rerouting import Rerouting
from qwen3lab.lab import Lab
from qwen3lab.recording.recording import Recording
from qwen3lab.thinking import Convergence, Importance, Sweep

OPEN = "No answer yet: put yours in place of None and run the cell again."
_AN_EDIT = (
    "what qwen3lab.interventions.rerouting makes, as in answer=rerouting.off([3, 5], layers=2)"
)


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and why.

    Attributes:
        solved: True, False, or None where nothing was answered.
        reason: one sentence.
    """

    solved: bool | None
    reason: str

    def __repr__(self) -> str:
        return f"{self._mark()} {self.reason}"

    def _repr_html_(self) -> str:
        hue = {True: "#009e73", False: "#d55e00", None: "#6a737d"}[self.solved]
        # Nearer to the page's own ink, on light pages and dark ones: else it is hard to read.
        colour = f"color-mix(in srgb, {hue} 65%, currentcolor)"
        return f'<b style="color: {colour}">{self._mark()}</b> {html.escape(self.reason)}'

    def _mark(self) -> str:
        return {True: "Right.", False: "Not yet.", None: "…"}[self.solved]


def busiest_expert(recording: Recording, layer: int, answer: object) -> Verdict:
    """Which expert of a layer serves most tokens of a run?"""
    answer = _number(answer)
    if isinstance(answer, Verdict):
        return answer
    load = expert_load(recording.routing.layer(layer).experts, recording.config.n_experts)
    if not 0 <= answer < len(load):
        return Verdict(False, f"layer {layer} has experts 0 to {len(load) - 1}, and no {answer}.")
    tokens = len(recording)
    share = f"serves {load[answer] * recording.config.n_experts_per_token * tokens:.0f} tokens"
    if load[answer] == load.max():
        return Verdict(True, f"Expert {answer} {share} of {tokens}, and none serves more.")
    return Verdict(False, f"Expert {answer} {share} of {tokens}; another serves more.")


def specialist(corpus: RoutingCorpus, group: str, layer: int, answer: object) -> Verdict:
    """Which expert of a layer goes most with a group of tokens, by NPMI?"""
    answer = _number(answer)
    if isinstance(answer, Verdict):
        return answer
    ties = npmi(corpus.slots[corpus.config.moe_layers.index(layer)])[corpus.groups.index(group)]
    if not 0 <= answer < len(ties):
        return Verdict(False, f"layer {layer} has experts 0 to {len(ties) - 1}, and no {answer}.")
    tie = f"Expert {answer} and {group} have an NPMI of {ties[answer]:.2f}"
    if ties[answer] == ties.nan_to_num(-1.0).max():
        return Verdict(True, f"{tie}, the greatest in layer {layer}.")
    return Verdict(False, f"{tie}; another expert of layer {layer} has a greater one.")


def hurts_most(
    lab: Lab, texts: Sequence[Text], group: str, answer: object, *, ratio: float = 2.0
) -> Verdict:
    """Which intervention hurts one group of texts, and the others far less?"""
    if answer is None:
        return Verdict(None, OPEN)
    if not isinstance(answer, Rerouting):
        return Verdict(False, f"{answer!r} changes no routing: give {_AN_EDIT}.")
    try:
        without = group_losses(lab, texts, edits=answer)
    except HookError as error:
        return Verdict(False, f"{error}.")
    base = group_losses(lab, texts)
    added = {name: without[name] - base[name] for name in base}
    others = {name: value for name, value in added.items() if name != group}
    worst = max(others, key=lambda name: others[name])
    found = (
        f"{group} loses {added[group]:.2f} nats per token, "
        f"{worst}, the next, {max(others[worst], 0.0):.2f}"
    )
    enough = added[group] >= 0.1 and added[group] >= ratio * others[worst]
    if enough:
        return Verdict(True, f"{found}.")
    return Verdict(
        False, f"{found}: aim for 0.1 at least, and {ratio:g} times as much as the next."
    )


def budget_needed(sweep: Sweep, level: str, answer: object, *, share: float = 0.9) -> Verdict:
    """Which is the least budget with which so many of a level's problems are solved?"""
    answer = _number(answer)
    if isinstance(answer, Verdict):
        return answer
    points = {point.budget: point.right for point in curve(sweep, level=level).points}
    if answer not in points:
        return Verdict(False, f"{answer} is none of the budgets that were tried: {sweep.budgets}.")
    found = f"Within {answer} tokens {points[answer].value:.0%} of level {level} are right"
    if points[answer].value < share:
        return Verdict(False, f"{found}: look for at least {share:.0%}.")
    less = [b for b in points if b is not None and b < answer and points[b].value >= share]
    if less:
        return Verdict(False, f"{found}, but less thinking is enough, too.")
    return Verdict(True, f"{found}, and with every smaller budget fewer than {share:.0%}.")


def settles(found: Convergence, answer: object) -> Verdict:
    """After how many thinking tokens does the answer change no more?"""
    answer = _number(answer)
    if isinstance(answer, Verdict):
        return answer
    if answer not in found.points:
        return Verdict(False, f"It was not asked after {answer} tokens, but after {found.points}.")
    if answer == found.settled:
        return Verdict(True, f"From there on it stays at {found.favourites[-1]!r}.")
    late = "sooner" if answer > found.settled else "later"
    here = found.favourites[found.points.index(answer)]
    return Verdict(False, f"After {answer} tokens it says {here!r}; it settles {late}.")


def crucial_part(found: Importance, answer: object) -> Verdict:
    """Without which part of the thinking does the answer change most?"""
    answer = _number(answer)
    if isinstance(answer, Verdict):
        return answer
    if not 0 <= answer < len(found.parts):
        return Verdict(False, f"the parts have the numbers 0 to {len(found.parts) - 1}.")
    changed = f"Without part {answer}, {found.distance[answer]:.0%} of the answers change"
    most = max(value for value in found.distance if value == value)
    if found.distance[answer] == most:
        return Verdict(True, f"{changed}, and no other part changes more.")
    return Verdict(False, f"{changed}; another part changes more.")


def best_head(scores: HeadProfile, score: str, answer: object, *, least: float = 0.5) -> Verdict:
    """Which head, as (layer, head), has one of the highest scores of a kind?"""
    answer = _pair(answer)
    if isinstance(answer, Verdict):
        return answer
    values = getattr(scores, score)
    layer, head = answer
    if layer not in scores.layers or not 0 <= head < values.shape[1]:
        return Verdict(False, f"there is no layer {layer} with a head {head}.")
    found = float(values[scores.layers.index(layer), head])
    said = f"Head {head} of layer {layer} has {found:.2f}"
    if found >= min(least, float(values.max())):
        return Verdict(True, f"{said}; the highest is {float(values.max()):.2f}.")
    return Verdict(False, f"{said}: look for one of {min(least, float(values.max())):.2f} or more.")


def sink_token(mass: Sequence[float], answer: object) -> Verdict:
    """Which token draws most attention of those who see it?"""
    answer = _number(answer)
    if isinstance(answer, Verdict):
        return answer
    if not 0 <= answer < len(mass):
        return Verdict(False, f"the text has tokens 0 to {len(mass) - 1}, and no {answer}.")
    found = f"Token {answer} draws {mass[answer]:.0%} of the attention of those who see it"
    if mass[answer] == max(mass):
        return Verdict(True, f"{found}, and none draws more.")
    return Verdict(False, f"{found}; another draws more.")


def reads_most(mass: Float[Tensor, "layer head"], answer: object) -> Verdict:
    """Which head, as (layer, head), looks most at some part of the text?"""
    answer = _pair(answer)
    if isinstance(answer, Verdict):
        return answer
    layer, head = answer
    if not (0 <= layer < mass.shape[0] and 0 <= head < mass.shape[1]):
        return Verdict(False, f"there is no layer {layer} with a head {head}.")
    found = f"Head {head} of layer {layer} gives it {float(mass[layer, head]):.0%}"
    if mass[layer, head] == mass.max():
        return Verdict(True, f"{found}, and none gives it more.")
    return Verdict(False, f"{found}; another gives it more.")


def _number(answer: Any) -> int | Verdict:
    """A whole number, or what to say of anything else."""
    if answer is None:
        return Verdict(None, OPEN)
    try:
        return operator.index(answer)
    except TypeError:
        return Verdict(False, f"{answer!r} is no whole number: give one, as in answer=3.")


def _pair(answer: Any) -> tuple[int, int] | Verdict:
    """Layer and head, or what to say of anything else."""
    if answer is None:
        return Verdict(None, OPEN)
    try:
        layer, head = map(operator.index, answer)
    except (TypeError, ValueError):
        return Verdict(
            False, f"{answer!r} names no head: give layer and head, as in answer=(3, 1)."
        )
    return layer, head
