"""The atlas of a run, layer by layer, and the counts of its labels as tensors."""

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.analysis.atlas import (
    Association,
    Atlas,
    Example,
    ExpertEntry,
    Neighbour,
    associations,
    neighbours,
    telling_tokens,
)
from qwen3lab.analysis.topic_and_type import TopicAndType, topic_and_type as _topic_and_type
from qwen3lab.arguments import Count, checked
from qwen3lab.corpus.part import WEIGHTS
from qwen3lab.corpus.plan import pair_of
from qwen3lab.corpus.run import CorpusRun
from qwen3lab.corpus.sums import summed
from qwen3lab.errors import CorpusError

WORDS = ("before", "token", "after")
"""Columns of an example's text."""


@checked
def atlas(
    run: CorpusRun,
    *,
    columns: Sequence[str] = (),
    n_labels: Count = 2,
    n_tokens: Count = 5,
    n_examples: Count = 5,
    n_neighbours: Count = 3,
) -> Atlas:
    """What each expert does on a corpus: its labels, tokens, examples and neighbours.

    Args:
        run: recorded with "counts" in `keep`, and with "top" for the examples.
        columns: labels to use; all label and token-label columns if empty.
        n_labels: of each expert and column, at most.
        n_tokens: of each expert, at most.
        n_examples: of each expert, at most.
        n_neighbours: of each expert, at most.

    Raises:
        CorpusError: counts were not kept, or there is no such column.
    """
    columns = tuple(columns) or (*run.plan.labels, *run.plan.token_labels)
    labels = _labels_of(run, columns, n_labels)
    experts = dict[tuple[int, int], ExpertEntry]()
    layers, n_routed = run.config.moe_layers, max(run.total("routed"), 1)
    slots = {layer: run.co_activation(layer).diagonal() for layer in layers}
    for at, (layer, after) in enumerate(zip_longest(layers, layers[1:])):
        own, following = slots[layer], list[tuple[Neighbour, ...]]()
        together = neighbours(
            run.co_activation(layer),
            own / n_routed,
            own,
            layer=layer,
            same_layer=True,
            n=n_neighbours,
        )
        if after is not None:
            following = neighbours(
                run.transitions(layer),
                slots[after] / n_routed,
                own,
                layer=after,
                same_layer=False,
                n=n_neighbours,
            )
        tokens, examples = _tokens_of(run, layer, n_tokens), _examples_of(run, layer, n_examples)
        for expert in range(run.config.n_experts):
            experts[layer, expert] = ExpertEntry(
                layer,
                expert,
                float(own[expert] / n_routed),
                labels[at][expert],
                tokens[expert],
                examples[expert],
                together[expert],
                following[expert] if following else (),
            )
    return Atlas(run.plan.model, layers, run.config.n_experts, columns, experts)


@checked
def topic_and_type(run: CorpusRun, *, topic: str, kind: str) -> TopicAndType:
    """Specialisation by topic of the text told apart from specialisation by type of the token.

    Args:
        run: recorded with `label=topic, token_label=kind, cross=True`.
        topic: a label column.
        kind: a token-label column.

    Raises:
        CorpusError: there are no such columns, or their pairs were not counted.
    """
    pairs, counts, _ = slots_of(run, pair_of(topic, kind))
    topics, kinds = (slots_of(run, column)[0] for column in (topic, kind))
    place = {pair_of(a, b): (i, j) for i, a in enumerate(topics) for j, b in enumerate(kinds)}
    table = torch.zeros(
        len(counts), len(topics), len(kinds), run.config.n_experts, dtype=torch.float64
    )
    for row, pair in enumerate(pairs):
        table[:, place[pair][0], place[pair][1]] = counts[:, row]
    return _topic_and_type(table, layers=run.config.moe_layers, names=(topic, kind))


@checked
def slots_of(
    run: CorpusRun, column: str
) -> tuple[list[str], Float[Tensor, "layer label expert"], Int[Tensor, " label"]]:
    """The labels of a column, their tokens routed to each expert, and their numbers of tokens.

    Raises:
        CorpusError: there is no such column.
    """
    if column not in run.plan.groupings:
        known = ", ".join(run.plan.groupings) or "none"
        raise CorpusError(
            f"there is no column {column!r}: the counts are grouped by {known}; record the corpus "
            "with label=, token_label= and cross="
        )
    table = run.counts
    if "column" in table.columns:
        table = table[table.column == column]
    names = list(dict.fromkeys(table.label))
    sizes = (len(run.config.moe_layers), len(names), run.config.n_experts)
    slots = torch.from_numpy(table.slots.to_numpy().reshape(sizes).astype(np.float64))
    tokens = table.tokens.to_numpy().reshape(sizes)[0, :, 0]
    return names, slots, torch.from_numpy(tokens.astype(np.int64))


def _labels_of(
    run: CorpusRun, columns: Sequence[str], n: int
) -> list[list[tuple[Association, ...]]]:
    """The labels of every layer and expert."""
    n_layers, n_experts = len(run.config.moe_layers), run.config.n_experts
    found = [[tuple[Association, ...]() for _ in range(n_experts)] for _ in range(n_layers)]
    for column in columns:
        names, slots, tokens = slots_of(run, column)
        for at, layer in enumerate(slots):
            own = associations(layer, tokens, names, column=column, n=n)
            found[at] = [one + other for one, other in zip(found[at], own, strict=True)]
    return found


def _tokens_of(run: CorpusRun, layer: int, n: int) -> list[tuple[tuple[str, float], ...]]:
    import pyarrow.dataset

    of_layer = pyarrow.dataset.field("layer") == layer
    found = summed(run.table("tokens"), ["token_id", "expert"], ["slots"], where=of_layer)
    ids, rows = np.unique(found["token_id"].to_numpy(), return_inverse=True)
    counts = np.zeros((len(ids), run.config.n_experts))
    counts[rows, found["expert"].to_numpy()] = found["slots"].to_numpy()
    texts = [run.vocabulary[token] for token in ids]
    return [
        tuple((texts[row], share) for row, share in best)
        for best in telling_tokens(torch.from_numpy(counts), n=n)
    ]


def _examples_of(run: CorpusRun, layer: int, n: int) -> list[tuple[Example, ...]]:
    found = [list[Example]() for _ in range(run.config.n_experts)]
    if "top" in run.plan.keep:
        table = run.top(WEIGHTS.format(layer))
        columns = (table[name].tolist() for name in ("unit", "score", "row", *WORDS))
        for unit, *values in zip(*columns, strict=True):
            found[unit].append(Example(*values))
    return [tuple(each[:n]) for each in found]
