"""Exercises that check themselves: an answer goes in, a verdict in one sentence comes out."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from qwen3lab.analysis.corpus import RoutingCorpus
from qwen3lab.analysis.knockout import Text, group_losses
from qwen3lab.analysis.routing import expert_load
from qwen3lab.analysis.specialisation import npmi
from qwen3lab.lab import Lab
from qwen3lab.recording import Recording
from qwen3lab.rerouting import Rerouting

OPEN = "No answer yet: put yours in place of None and run the cell again."


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
        colour = {True: "#009e73", False: "#d55e00", None: "#6a737d"}[self.solved]
        return f'<b style="color: {colour}">{self._mark()}</b> {html.escape(self.reason)}'

    def _mark(self) -> str:
        return {True: "Right.", False: "Not yet.", None: "…"}[self.solved]


def busiest_expert(recording: Recording, layer: int, answer: int | None) -> Verdict:
    """Which expert of a layer serves most tokens of a run?"""
    if answer is None:
        return Verdict(None, OPEN)
    row = recording.routing.layers.index(layer)
    load = expert_load(recording.routing.experts[row], recording.config.n_experts)
    if not 0 <= answer < len(load):
        return Verdict(False, f"layer {layer} has experts 0 to {len(load) - 1}, and no {answer}.")
    tokens = len(recording)
    share = f"serves {load[answer] * recording.config.n_experts_per_token * tokens:.0f} tokens"
    if load[answer] == load.max():
        return Verdict(True, f"Expert {answer} {share} of {tokens}, and none serves more.")
    return Verdict(False, f"Expert {answer} {share} of {tokens}; another serves more.")


def specialist(corpus: RoutingCorpus, group: str, layer: int, answer: int | None) -> Verdict:
    """Which expert of a layer goes most with a group of tokens, by NPMI?"""
    if answer is None:
        return Verdict(None, OPEN)
    ties = npmi(corpus.slots[corpus.config.moe_layers.index(layer)])[corpus.groups.index(group)]
    if not 0 <= answer < len(ties):
        return Verdict(False, f"layer {layer} has experts 0 to {len(ties) - 1}, and no {answer}.")
    tie = f"Expert {answer} and {group} have an NPMI of {ties[answer]:.2f}"
    if ties[answer] == ties.nan_to_num(-1.0).max():
        return Verdict(True, f"{tie}, the greatest in layer {layer}.")
    return Verdict(False, f"{tie}; another expert of layer {layer} has a greater one.")


def hurts_most(
    lab: Lab, texts: Sequence[Text], group: str, answer: Rerouting | None, *, ratio: float = 2.0
) -> Verdict:
    """Which intervention hurts one group of texts, and the others far less?"""
    if answer is None:
        return Verdict(None, OPEN)
    base, without = group_losses(lab, texts), group_losses(lab, texts, edits=answer)
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
