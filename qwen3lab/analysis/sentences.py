"""Attention between the sentences of a thinking text, and receiver heads."""

from collections.abc import Sequence
from dataclasses import dataclass

import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.attention.statistics import BLOCK
from qwen3lab.arguments import Count, checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.recording.recording import Recording
from qwen3lab.thinking.pieces import Piece
from qwen3lab.translation import tr

MIN_SENTENCE_DISTANCE = 4
"""Minimum distance between two sentences, in sentences, to count as looking back."""

MIN_KURTOSIS_VALUES = 6
"""Minimum number of values for a kurtosis; three values always have the same one."""


@dataclass(frozen=True, repr=False, eq=False)
class SentenceAttention(EqualByValue, Displayed):
    """Attention between each pair of sentences.

    Attributes:
        layers: of the model.
        attention: mean over pairs of a query token in the first sentence and a key token in the
            other; 0 if the other sentence is later.
    """

    layers: tuple[int, ...]
    attention: Float[Tensor, "layer head sentence other"]

    def _summary(self) -> Summary:
        _, n_heads, n_sentences, _ = self.attention.shape
        sizes = {tr("layers"): len(self.layers), tr("heads"): n_heads, tr("sentences"): n_sentences}
        facts = {name: str(size) for name, size in sizes.items()}
        note = tr("receiver_scores() finds heads that attend to few earlier sentences")
        return Summary(tr("Attention between sentences"), facts, note=note)

    def received(
        self, *, apart: int = MIN_SENTENCE_DISTANCE
    ) -> Float[Tensor, "layer head sentence"]:
        """Mean attention that a sentence receives from sentences at least `apart` later.

        nan for sentences without such a later sentence.
        """
        n = self.attention.shape[-1]
        place = torch.arange(n)
        far = (place[:, None] - place[None] >= apart).float()
        return (self.attention * far).sum(dim=2) / far.sum(dim=0).where(
            far.sum(dim=0) > 0, torch.nan
        )

    def receiver_scores(self, *, apart: int = MIN_SENTENCE_DISTANCE) -> Float[Tensor, "layer head"]:
        """Kurtosis of the attention that sentences receive from later ones, by head.

        The attention of a "receiver head" goes to few earlier sentences (Thought Anchors,
        arXiv 2506.19143, section 4). Excess kurtosis, as in `scipy`: 0 for a normal distribution.

        Raises:
            ValueError: fewer than `MIN_KURTOSIS_VALUES` sentences have a later sentence at this
                distance.
        """
        received = self.received(apart=apart)
        received = received[..., ~received[0, 0].isnan()]
        if received.shape[-1] < MIN_KURTOSIS_VALUES:
            raise ValueError(
                tr(
                    "{shape} sentences have a sentence at least {apart} later: expected "
                    "{min_kurtosis_values} or more, use a longer thinking text or a smaller "
                    "distance",
                    shape=received.shape[-1],
                    apart=apart,
                    min_kurtosis_values=MIN_KURTOSIS_VALUES,
                )
            )
        return torch.from_numpy(scipy.stats.kurtosis(received.double().numpy(), axis=-1)).float()


@checked
def sentence_attention(
    recording: Recording, parts: Sequence[Piece], *, block: Count = BLOCK
) -> SentenceAttention:
    """Measure attention between sentences, in blocks of queries.

    Args:
        recording: with attention.
        parts: the sentences, in order; from `thinking.pieces`.
        block: queries per block.

    Raises:
        RecordingError: attention was not recorded.
        ValueError: no sentence.
    """
    if not parts:
        raise ValueError(tr("there is no sentence: expected the pieces of a thinking text"))
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
