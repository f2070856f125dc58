"""Attention between the sentences of a thinking, and receiver heads."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.stats import kurtosis
from torch import Tensor

from qwen3lab.analysis.attention.statistics import BLOCK
from qwen3lab.display import Displayed, Summary
from qwen3lab.recording.recording import Recording
from qwen3lab.thinking.pieces import Piece

MIN_SENTENCE_DISTANCE = 4
"""Minimum distance between two sentences, in sentences, to count as looking back."""

MIN_KURTOSIS_VALUES = 6
"""Minimum number of values for a kurtosis; that of three values is always the same."""


@dataclass(frozen=True, repr=False)
class SentenceAttention(Displayed):
    """Attention from the tokens of each sentence to those of each other sentence.

    Attributes:
        layers: of the model.
        attention: mean over pairs of a query token in one sentence and a key token in another;
            0 where the second comes later.
    """

    layers: tuple[int, ...]
    attention: Float[Tensor, "layer head sentence other"]

    def _summary(self) -> Summary:
        _, n_heads, n_sentences, _ = self.attention.shape
        sizes = {"layers": len(self.layers), "heads": n_heads, "sentences": n_sentences}
        facts = {name: str(size) for name, size in sizes.items()}
        note = "receiver_scores() finds the heads that look back at few sentences"
        return Summary("Attention between sentences", facts, note=note)

    def received(
        self, *, apart: int = MIN_SENTENCE_DISTANCE
    ) -> Float[Tensor, "layer head sentence"]:
        """Attention that a sentence receives from sentences `apart` or more later, mean.

        nan for sentences without a later one at that distance.
        """
        n = self.attention.shape[-1]
        place = torch.arange(n)
        far = (place[:, None] - place[None] >= apart).float()
        return (self.attention * far).sum(dim=2) / far.sum(dim=0).where(
            far.sum(dim=0) > 0, torch.nan
        )

    def receiver_scores(self, *, apart: int = MIN_SENTENCE_DISTANCE) -> Float[Tensor, "layer head"]:
        """Kurtosis of the attention that sentences receive from later ones, by head.

        A "receiver head" narrows later attention to a few sentences (Thought Anchors,
        arXiv 2506.19143, section 4). Excess kurtosis, as `scipy` has it: 0 for a normal
        distribution.

        Raises:
            ValueError: fewer than `MIN_KURTOSIS_VALUES` sentences have a later one so far away.
        """
        got = self.received(apart=apart)
        got = got[..., ~got[0, 0].isnan()]
        if got.shape[-1] < MIN_KURTOSIS_VALUES:
            raise ValueError(
                f"{got.shape[-1]} sentences have others at least {apart} behind them: expected "
                f"{MIN_KURTOSIS_VALUES} or more, so use a longer thinking or a smaller distance"
            )
        return torch.from_numpy(kurtosis(got.double().numpy(), axis=-1)).float()


def sentence_attention(
    recording: Recording, parts: Sequence[Piece], *, block: int = BLOCK
) -> SentenceAttention:
    """Measure attention between sentences, a block of queries at a time.

    Args:
        recording: with attention.
        parts: the sentences, in order; from `thinking.pieces`.
        block: queries at a time.

    Raises:
        RecordingError: attention was not recorded.
        ValueError: no sentence.
    """
    if not parts:
        raise ValueError("there is no sentence: expected the pieces of a thinking")
    n_parts, n_heads = len(parts), recording.config.n_heads
    of_token = torch.zeros(len(recording), n_parts)
    for number, part in enumerate(parts):
        of_token[part.start : part.end, number] = 1.0 / (part.end - part.start)
    rows = []
    for layer in recording.attention.some_layers:
        total = torch.zeros(n_heads, n_parts, n_parts)
        for start, pattern in recording.attention.blocks(layer, size=block):
            queries = of_token[start : start + pattern.shape[1]]
            total += queries.T @ (pattern @ of_token)
        rows.append(total)
    return SentenceAttention(recording.attention.layers, torch.stack(rows))
