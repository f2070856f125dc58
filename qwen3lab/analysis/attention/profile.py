"""Attention profile of every head, for a recording of any length.

Patterns are computed for one block of queries at a time, and only sums are kept: memory is linear
in the number of tokens, while full patterns would be quadratic.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.analysis.attention.statistics import BLOCK, _Sums, _uniform, targets
from qwen3lab.arguments import Count, checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import later, tr

if TYPE_CHECKING:
    import pandas

PROGRESS_DELAY_SECONDS = 1.0
"""Seconds of work after which a progress bar appears."""

SPECIAL = re.compile(r"<\|.*\|>|</?think>")
CLEAR_EXCESS, MIN_EXCESS = 0.5, 0.25
"""Excess over uniform attention from which the kind of a head is "clear", and "shows"."""

MIN_BROAD_ENTROPY = 0.9
"""Relative entropy above which a head without a kind is "broad"."""

KINDS = {
    "first": later("sink"),
    "itself": later("itself"),
    "previous": later("previous token"),
    "duplicate": later("duplicate token"),
    "induction": later("induction"),
}


@dataclass(frozen=True, repr=False, eq=False)
class HeadProfile(EqualByValue, Displayed):
    """Where each head attends: shares of its attention, means over the queries.

    Attributes:
        layers: of the model; the first axis of all other attributes.
        entropy: of a query's distribution over keys, nats.
        relative_entropy: entropy over its maximum, the logarithm of the number of keys; queries
            with one key are left out.
        distance: tokens between query and key, weighted by attention.
        first: share on the first token.
        strongest: position of the most attended token, in the first half of the text.
        drawn: share on that token, mean over the token itself and later queries.
        itself: share on the query's own token.
        previous: share on the previous token.
        duplicate: share on earlier occurrences of the query's token.
        induction: share on the tokens after these occurrences.
        special: share on special tokens of a chat, such as `<|im_start|>` and `<think>`.
        uniform: for some of the shares, the value under uniform attention.
    """

    layers: tuple[int, ...]
    entropy: Float[Tensor, "layer head"]
    relative_entropy: Float[Tensor, "layer head"]
    distance: Float[Tensor, "layer head"]
    first: Float[Tensor, "layer head"]
    strongest: Int[Tensor, "layer head"]
    drawn: Float[Tensor, "layer head"]
    itself: Float[Tensor, "layer head"]
    previous: Float[Tensor, "layer head"]
    duplicate: Float[Tensor, "layer head"]
    induction: Float[Tensor, "layer head"]
    special: Float[Tensor, "layer head"]
    uniform: Mapping[str, float]

    def kinds(self) -> list[list[tuple[str, float]]]:
        """The likely kind of each head by layer, and its excess over uniform attention, 0 to 1.

        The kind with the largest excess of its share over uniform attention, relative to the
        largest possible excess. Below `MIN_EXCESS` a head is "mixed", or "broad" if its relative
        entropy is above `MIN_BROAD_ENTROPY`. It describes the attention of a head on this text,
        not its function.
        """
        excess = torch.stack(
            [
                (getattr(self, name) - self.uniform[name]) / (1 - self.uniform[name])
                for name in KINDS
            ]
        )
        best, names = excess.max(dim=0), list(KINDS)
        rows = zip(
            best.indices.tolist(),
            best.values.tolist(),
            (self.relative_entropy > MIN_BROAD_ENTROPY).tolist(),
            strict=True,
        )
        return [
            [_kind(names[place], excess, broad) for place, excess, broad in zip(*row, strict=True)]
            for row in rows
        ]

    def to_pandas(self) -> "pandas.DataFrame":
        """A table of all heads: scores, likely kind, and excess over uniform attention."""
        import pandas

        n_layers, n_heads = self.entropy.shape
        kinds = [kind for row in self.kinds() for kind in row]
        not_scores = ("layers", "uniform")
        scores = {
            name: getattr(self, name).flatten().tolist()
            for name in self.__dataclass_fields__
            if name not in not_scores
        }
        return pandas.DataFrame(
            {
                "layer": [layer for layer in self.layers for _ in range(n_heads)],
                "head": list(range(n_heads)) * n_layers,
                "kind": [kind for kind, _ in kinds],
                "above_uniform": [excess for _, excess in kinds],
                "sure": [_certainty(excess) for _, excess in kinds],
                **scores,
            }
        )

    def _summary(self) -> Summary:
        n_layers, n_heads = self.entropy.shape
        facts = {tr("layers"): str(n_layers), tr("heads per layer"): str(n_heads)}
        return Summary(tr("Profile of heads"), facts, frame=self._clearest)

    def _clearest(self) -> "pandas.DataFrame":
        """The head of each kind with the largest excess over uniform attention."""
        table = self.to_pandas().sort_values("above_uniform", ascending=False)
        columns = ["kind", "layer", "head", "above_uniform", "sure"]
        return table.loc[table["sure"] != "unsure", columns].groupby("kind", sort=False).head(1)


@checked
def head_profile(
    recording: Recording,
    *,
    block: Count = BLOCK,
    progress: bool = True,
    on_block: Callable[[int, int], None] | None = None,
) -> HeadProfile:
    """Measure the attention profile of every head.

    The shares on previous tokens, duplicates and induction targets equal those of TransformerLens'
    `detect_head` with `error_measure="mul"` and nothing excluded.

    Args:
        recording: with attention.
        block: queries per block; does not change the result.
        progress: show a progress bar after `PROGRESS_DELAY_SECONDS`.
        on_block: called with the number of finished blocks and of all blocks, over all layers; an
            exception that it raises stops the work.

    Raises:
        RecordingError: attention was not recorded.
        ValueError: fewer than two tokens.
    """
    n = len(recording)
    if n < 2:
        raise ValueError(tr("the recording has {n} token: expected two or more", n=n))
    layers = recording.attention.some_layers
    special = torch.tensor([bool(SPECIAL.fullmatch(token)) for token in recording.tokens])
    sums = [_Sums(special, recording.config.n_heads) for _ in layers]
    starts = range(0, n, block)
    bar = tqdm(
        total=len(starts) * len(layers),
        disable=not progress,
        delay=PROGRESS_DELAY_SECONDS,
        leave=False,
    )
    with bar:
        for place, start in enumerate(starts):
            rows = slice(start, min(start + block, n))
            wanted = targets(recording.token_ids, start, rows.stop - start)
            for row, (layer, kept) in enumerate(zip(layers, sums, strict=True), 1):
                kept.add(start, recording.attention.pattern(layer, queries=rows), *wanted)
                bar.update()
                if on_block is not None:
                    on_block(place * len(layers) + row, len(starts) * len(layers))
    means = [kept.means() for kept in sums]
    stacked = {name: torch.stack([mean[name] for mean in means]) for name in means[0]}
    uniform = _uniform(recording.token_ids, block)
    return HeadProfile(layers=layers, **stacked, uniform=uniform)


def _kind(name: str, excess: float, broad: bool) -> tuple[str, float]:
    if excess >= MIN_EXCESS:
        return KINDS[name], excess
    return later("broad") if broad else later("mixed"), max(excess, 0.0)


def _certainty(excess: float) -> str:
    return "clear" if excess >= CLEAR_EXCESS else "shows" if excess >= MIN_EXCESS else "unsure"
