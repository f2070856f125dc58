"""Measures effects of interventions: loss on texts and error rate on problems, per group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.routing import expert_load, loads_of_layers
from qwen3lab.arguments import check_fields, checked
from qwen3lab.generation.reply import all_finished
from qwen3lab.generation.sampling import Sampling
from qwen3lab.hooks.edits import AnyEdits
from qwen3lab.interventions.rerouting import moe_layers_of
from qwen3lab.lab import Lab
from qwen3lab.thinking import Problem

BATCH_SIZE = 32


@dataclass(frozen=True)
class Text:
    """A tokenised text with its group.

    Attributes:
        group: such as its domain.
        token_ids: the text.
        counts: True for each token whose loss counts; None means all.
    """

    group: str
    token_ids: Sequence[int]
    counts: Sequence[bool] | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@checked
def group_losses(
    lab: Lab, texts: Sequence[Text], *, edits: AnyEdits | None = None
) -> dict[str, float]:
    """Mean next-token loss of each group over its counted tokens, in nats.

    Args:
        lab: the model.
        texts: to run, in batches; sorting them by length reduces padding.
        edits: applied during the runs.

    Raises:
        ValueError: no texts, or a group without counted tokens.
    """
    if not texts:
        raise ValueError("there is no text to read: expected at least one")
    losses: dict[str, list[Tensor]] = {text.group: [] for text in texts}
    for start in range(0, len(texts), BATCH_SIZE):
        batch = texts[start : start + BATCH_SIZE]
        recordings = lab.record_batch([list(text.token_ids) for text in batch], edits=edits)
        for text, recording in zip(batch, recordings, strict=True):
            losses[text.group].append(_losses(recording.logits, text))
    means = {group: float(torch.cat(values).mean()) for group, values in losses.items()}
    empty = [group for group, mean in means.items() if mean != mean]
    if empty:
        raise ValueError(f"no token of group {empty[0]!r} counts: expected at least one")
    return means


def _losses(logits: Float[Tensor, "token vocab"], text: Text) -> Float[Tensor, " counted"]:
    ids = torch.tensor(text.token_ids)
    counts = [True] * len(ids) if text.counts is None else list(text.counts)
    if len(counts) != len(ids):
        raise ValueError(
            f"a text of {len(ids)} tokens has {len(counts)} marks in counts: expected {len(ids)}"
        )
    losses = F.cross_entropy(logits[:-1], ids[1:], reduction="none")
    return losses[torch.tensor(counts[1:], dtype=torch.bool)]


@checked
def error_rates(
    lab: Lab,
    problems: Mapping[str, Sequence[Problem]],
    *,
    edits: AnyEdits | None = None,
    thinking: bool = True,
    sampling: Sampling | None = None,
    seed: int = 0,
    max_new_tokens: int | None = None,
) -> dict[str, float]:
    """Share of each group's problems that are answered wrong.

    Args:
        lab: the model.
        problems: by group, such as their family.
        edits: applied during the whole reply.
        thinking: True if replies start with a thinking block.
        sampling: how tokens are sampled; None for that of `lab.suggested`: greedy for the embedded
            models, and as published for others.
        seed: of the sampling.
        max_new_tokens: limit of a reply; a reply that reaches it is wrong. None for that of
            `lab.suggested`.

    Raises:
        ValueError: no groups, or a group without problems.
    """
    if not problems:
        raise ValueError("there is no problem to solve: expected at least one group")
    rates = {}
    for group, members in problems.items():
        if not members:
            raise ValueError(f"group {group!r} has no problems: expected at least one")
        wrong = 0
        for start in range(0, len(members), BATCH_SIZE):
            batch = members[start : start + BATCH_SIZE]
            replies = lab.chat_batch(
                [problem.question for problem in batch],
                thinking=thinking,
                max_new_tokens=max_new_tokens,
                sampling=sampling or lab.suggested.sampling,
                seed=seed,
                edits=edits,
            )
            pairs = zip(batch, all_finished(replies), strict=True)
            wrong += sum(r.stop == "length" or not p.grade(r.answer) for p, r in pairs)
        rates[group] = wrong / len(members)
    return rates


@checked
def expert_loads(
    lab: Lab, texts: Sequence[Text], layers: Sequence[int]
) -> Float[Tensor, "layer expert"]:
    """Load of the experts over all tokens of the texts; each row sums to 1.

    Args:
        lab: a mixture of experts.
        texts: to run.
        layers: MoE layers, by their layer numbers in the model.

    Raises:
        HookError: a layer has no experts.
        ValueError: there are no layers or no texts.
    """
    if not layers or not texts:
        raise ValueError("there are no layers or no texts: expected at least one of each")
    rows = [lab.config.moe_layers.index(n) for n in moe_layers_of(tuple(layers), lab.config)]
    chosen = []
    for start in range(0, len(texts), BATCH_SIZE):
        ids = [list(text.token_ids) for text in texts[start : start + BATCH_SIZE]]
        chosen += [recording.routing.experts[rows] for recording in lab.record_batch(ids)]
    by_layer = torch.cat(chosen, dim=1)
    loads = torch.stack([expert_load(layer, lab.config.n_experts) for layer in by_layer])
    return loads_of_layers(loads, [lab.config.moe_layers[row] for row in rows], lab.name)
