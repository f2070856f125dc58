"""What an intervention costs: the loss on texts, and the errors on problems, group by group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.routing import expert_load, loads_of_layers
from qwen3lab.generation.sampling import Sampling
from qwen3lab.hooks.edits import AnyEdits
from qwen3lab.lab import Lab
from qwen3lab.thinking import Problem

BATCH = 32


@dataclass(frozen=True)
class Text:
    """A text to be read.

    Attributes:
        group: such as its domain.
        token_ids: the text.
        counts: True for each token whose prediction counts; all of them if None.
    """

    group: str
    token_ids: Sequence[int]
    counts: Sequence[bool] | None = None


def group_losses(
    lab: Lab, texts: Sequence[Text], *, edits: AnyEdits | None = None
) -> dict[str, float]:
    """Mean loss of each group's counted tokens, in nats.

    Args:
        lab: the model.
        texts: to read; those of like length together waste least.
        edits: in force while it reads.

    Raises:
        ValueError: there is no text, or none of a group's tokens counts.
    """
    if not texts:
        raise ValueError("there is no text to read: expected at least one")
    lost: dict[str, list[Tensor]] = {text.group: [] for text in texts}
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        found = lab.record_batch([list(text.token_ids) for text in batch], edits=edits)
        for text, recording in zip(batch, found, strict=True):
            lost[text.group].append(_losses(recording.logits, text))
    means = {group: float(torch.cat(losses).mean()) for group, losses in lost.items()}
    empty = [group for group, mean in means.items() if mean != mean]
    if empty:
        raise ValueError(f"no token of group {empty[0]!r} counts: expected at least one")
    return means


def _losses(logits: Float[Tensor, "token vocab"], text: Text) -> Float[Tensor, " counted"]:
    ids = torch.tensor(text.token_ids)
    counts = [True] * len(ids) if text.counts is None else list(text.counts)
    if len(counts) != len(ids):
        raise ValueError(
            f"a text of {len(ids)} tokens has {len(counts)} marks of what counts: expected as many"
        )
    losses = F.cross_entropy(logits[:-1], ids[1:], reduction="none")
    return losses[torch.tensor(counts[1:], dtype=torch.bool)]


def error_rates(
    lab: Lab,
    problems: Mapping[str, Sequence[Problem]],
    *,
    edits: AnyEdits | None = None,
    thinking: bool = True,
    max_new_tokens: int = 256,
) -> dict[str, float]:
    """The share of each group's problems that are answered wrong, by the most likely tokens.

    Args:
        lab: the model.
        problems: by group, such as their family.
        edits: in force during the whole reply.
        thinking: think first, or answer at once.
        max_new_tokens: longest reply; one that is longer is wrong.

    Raises:
        ValueError: a group without problems, or none at all.
    """
    if not problems:
        raise ValueError("there is no problem to solve: expected at least one group")
    rates = {}
    for group, found in problems.items():
        if not found:
            raise ValueError(f"group {group!r} has no problems: expected at least one")
        wrong = 0
        for start in range(0, len(found), BATCH):
            batch = found[start : start + BATCH]
            replies = lab.chat_batch(
                [problem.question for problem in batch],
                thinking=thinking,
                max_new_tokens=max_new_tokens,
                sampling=Sampling.greedy(),
                edits=edits,
            )
            pairs = zip(batch, replies, strict=True)
            wrong += sum(r.stop == "length" or not p.grade(r.answer) for p, r in pairs)
        rates[group] = wrong / len(found)
    return rates


def expert_loads(
    lab: Lab, texts: Sequence[Text], layers: Sequence[int]
) -> Float[Tensor, "layer expert"]:
    """Load of these layers' experts over all tokens of the texts; rows sum to 1.

    Args:
        lab: a mixture of experts.
        texts: to read.
        layers: with experts, by their own numbers.
    """
    rows = [lab.config.moe_layers.index(layer % lab.config.n_layers) for layer in layers]
    chosen = []
    for start in range(0, len(texts), BATCH):
        ids = [list(text.token_ids) for text in texts[start : start + BATCH]]
        chosen += [recording.routing.experts[rows] for recording in lab.record_batch(ids)]
    whole = torch.cat(chosen, dim=1)
    loads = torch.stack([expert_load(layer, lab.config.n_experts) for layer in whole])
    return loads_of_layers(loads, [lab.config.moe_layers[row] for row in rows], lab.name)
