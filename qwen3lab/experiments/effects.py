"""Measures effects of interventions: loss on texts and error rate on problems, per group."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.analysis.routing import loads_of_layers
from qwen3lab.arguments import check_fields, checked
from qwen3lab.generation.reply import all_finished
from qwen3lab.generation.sampling import Sampling
from qwen3lab.hooks.edits import AnyEdits
from qwen3lab.interventions.rerouting import moe_layers_of
from qwen3lab.lab import Lab
from qwen3lab.recording.rendered_logits import keeps_logits, next_token_logprobs
from qwen3lab.thinking import Problem
from qwen3lab.translation import tr

T = TypeVar("T")

BATCH_SIZE = 32
"""Maximum number of texts or problems that run at once."""
MAX_PADDED_PER_TOKEN = 1.5
"""Maximum number of positions of a batch for each of its tokens; the others are padding."""
MAX_VALUES = 2**26
"""Maximum number of values of the logits, or of the stream that they are computed from, of a batch
of several texts: 256 MiB in float32."""
PROGRESS_DELAY_SECONDS = 2.0
"""A measurement that takes longer shows a progress bar."""


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
    lab: Lab,
    texts: Sequence[Text],
    *,
    edits: AnyEdits | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """Mean next-token loss of each group over its counted tokens, in nats.

    Memory does not depend on the number of texts. A keyboard interrupt ends the measurement without
    a result: the mean over a part of the texts would be another number.

    Args:
        lab: the model.
        texts: to run, in batches of similar length.
        edits: applied during the runs.
        progress: show a progress bar if it takes long.

    Raises:
        ValueError: no texts, or a group without counted tokens.
    """
    if not texts:
        raise ValueError(tr("there is no text to read: expected at least one"))
    losses: dict[str, list[Tensor]] = {text.group: [] for text in texts}
    marks = [_counted(text) for text in texts]
    each = token_losses(lab, [text.token_ids for text in texts], marks, edits=edits)
    for index, values in _bar(each, len(texts), tr("text"), progress):
        losses[texts[index].group].append(values)
    means = {group: float(torch.cat(values).mean()) for group, values in losses.items()}
    empty = [group for group, mean in means.items() if mean != mean]
    if empty:
        raise ValueError(
            tr("no token of group {empty!r} counts: expected at least one", empty=empty[0])
        )
    return means


def token_losses(
    lab: Lab,
    texts: Sequence[Sequence[int]],
    counted: Sequence[Bool[Tensor, " _"]],
    *,
    edits: AnyEdits | None = None,
) -> Iterator[tuple[int, Float[Tensor, " _"]]]:
    """The losses of each text's counted tokens, in nats; one batch in memory.

    Yields:
        The index of a text, and its losses; texts of similar length follow each other.

    Args:
        lab: the model.
        texts: token ids of each text.
        counted: for each text, which of its tokens after the first count.
        edits: applied during the runs.
    """
    for indices in _batches(lab, texts):
        # Not a list of recordings: each one is freed once its losses are known.
        rows = [list(texts[index]) for index in indices]
        recordings = lab.record_batch(rows, edits=edits, attention=False)
        for index in indices:
            rec, after = recordings.pop(0), counted[index].nonzero()[:, 0]
            yield index, -next_token_logprobs(rec.logits, rec.token_ids, after=after)


def _batches(lab: Lab, texts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """The indices of the texts in batches of similar length, shortest first.

    A batch has one text alone if its logits are many.
    """
    batch: list[int] = []
    n_tokens = 0
    width = lab.config.d_vocab if keeps_logits(lab.config) else lab.config.d_model
    for index in sorted(range(len(texts)), key=lambda index: len(texts[index])):
        n = len(texts[index])
        padded = (len(batch) + 1) * n
        wasteful = padded > MAX_PADDED_PER_TOKEN * (n_tokens + n)
        if batch and (len(batch) == BATCH_SIZE or padded * width > MAX_VALUES or wasteful):
            yield batch
            batch, n_tokens = [], 0
        batch.append(index)
        n_tokens += n
    if batch:
        yield batch


def _counted(text: Text) -> Bool[Tensor, " following"]:
    """Which tokens count, without the first, which has no loss."""
    n = len(text.token_ids)
    counts = [True] * n if text.counts is None else list(text.counts)
    if len(counts) != n:
        raise ValueError(
            tr(
                "a text of {n} tokens has {n_counts} marks in counts: expected {n}",
                n=n,
                n_counts=len(counts),
            )
        )
    return torch.tensor(counts[1:], dtype=torch.bool)


def _bar(items: Iterable[T], total: int, unit: str, progress: bool) -> Iterable[T]:
    options = {"total": total, "unit": unit, "disable": not progress, "leave": False}
    return tqdm(items, delay=PROGRESS_DELAY_SECONDS, **options)


@checked
def error_rates(
    lab: Lab,
    problems: Mapping[str, Sequence[Problem]],
    *,
    edits: AnyEdits | None = None,
    thinking: bool = True,
    sampling: Sampling | None = None,
    seed: int = 0,
    budget: int | None = None,
    max_new_tokens: int | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """Share of each group's problems that are answered wrong.

    A keyboard interrupt ends the measurement without a result, as in `group_losses`.

    Args:
        lab: the model.
        problems: by group, such as their family.
        edits: applied during the whole reply.
        thinking: True if replies start with a thinking block.
        sampling: how tokens are sampled; None for that of `lab.suggested`: greedy for the embedded
            models, and as published for others.
        seed: of the sampling.
        budget: thinking budget of a reply, in tokens. None for that of `lab.suggested`, which has
            no limit for the embedded models.
        max_new_tokens: limit of a reply; a reply that reaches it is wrong. None for that of
            `lab.suggested`, or the budget and the length of an answer if there is a budget.
        progress: show a progress bar if it takes long.

    Raises:
        ValueError: no groups, or a group without problems.
    """
    if not problems:
        raise ValueError(tr("there is no problem to solve: expected at least one group"))
    empty = [group for group, members in problems.items() if not members]
    if empty:
        raise ValueError(
            tr("group {empty!r} has no problems: expected at least one", empty=empty[0])
        )
    batches = [
        (group, members[start : start + BATCH_SIZE])
        for group, members in problems.items()
        for start in range(0, len(members), BATCH_SIZE)
    ]
    wrong = dict.fromkeys(problems, 0)
    budget, longest = _limits(lab, budget, max_new_tokens, thinking=thinking)
    for group, batch in _bar(batches, len(batches), tr("batch"), progress):
        replies = lab.chat_batch(
            [problem.question for problem in batch],
            thinking=thinking,
            budget=budget,
            max_new_tokens=longest,
            sampling=sampling or lab.suggested.sampling,
            seed=seed,
            edits=edits,
        )
        pairs = zip(batch, all_finished(replies), strict=True)
        wrong[group] += sum(r.stop == "length" or not p.grade(r.answer) for p, r in pairs)
    return {group: wrong[group] / len(members) for group, members in problems.items()}


def _limits(
    lab: Lab, budget: int | None, max_new_tokens: int | None, *, thinking: bool
) -> tuple[int | None, int | None]:
    """The thinking budget and the limit of a reply; both may be given, or come from the lab."""
    if budget is None and thinking and lab.marks.think is not None:
        budget = lab.suggested.budget
    if budget is not None and max_new_tokens is None:
        max_new_tokens = budget + lab.suggested.answer_tokens
    return budget, max_new_tokens


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
        raise ValueError(tr("there are no layers or no texts: expected at least one of each"))
    rows = [lab.config.moe_layers.index(n) for n in moe_layers_of(tuple(layers), lab.config)]
    slots = torch.zeros(len(rows), lab.config.n_experts, dtype=torch.long)
    ids = [list(text.token_ids) for text in texts]
    for batch in _batches(lab, ids):
        for recording in lab.record_batch([ids[index] for index in batch], attention=False):
            for row, chosen in enumerate(recording.routing.experts[rows]):
                slots[row] += torch.bincount(chosen.flatten(), minlength=lab.config.n_experts)
    loads = slots / slots.sum(dim=1, keepdim=True)
    return loads_of_layers(loads, [lab.config.moe_layers[row] for row in rows], lab.name)
