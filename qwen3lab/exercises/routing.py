"""Exercises on expert routing."""

from collections.abc import Sequence

from qwen3lab.analysis.corpus import RoutingCorpus
from qwen3lab.analysis.routing import expert_load
from qwen3lab.analysis.specialisation import npmi
from qwen3lab.arguments import checked
from qwen3lab.errors import HookError
from qwen3lab.exercises.verdict import NO_ANSWER, Verdict, number_of
from qwen3lab.experiments.effects import Text, group_losses
from qwen3lab.interventions.rerouting import Rerouting
from qwen3lab.lab import Lab
from qwen3lab.recording.recording import Recording

_EXPECTED_EDIT = (
    "an intervention of qwen3lab.interventions.rerouting, as in "
    "answer=rerouting.off([3, 5], layers=2)"
)


@checked
def busiest_expert(recording: Recording, layer: int, answer: object) -> Verdict:
    """Which expert of a layer is chosen by most tokens of a run?"""
    answer = number_of(answer)
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
    answer = number_of(answer)
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
