"""From logits to a token: temperature, top-k, top-p and min-p, and one random stream per row."""

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.arguments import check_fields
from qwen3lab.translation import tr

SMALL_TEMPERATURE = 1e-6
"""Below, the largest logit is subtracted before the division."""
MIN_DIVISOR = 1e-30
"""Divides logits at most; its reciprocal is finite in float32."""
MAX_TIES = 128
"""Maximum number of tokens beyond `top_k` that are kept because they tie with its last token."""


@dataclass(frozen=True)
class Sampling:
    """Temperature and filters for sampling the next token; a temperature of 0 is greedy.

    Filters apply in this order, as in `transformers`: temperature, top-k, top-p, min-p.

    Attributes:
        temperature: divides the logits; 0 is greedy.
        top_k: keep the k most likely tokens; None keeps all.
        top_p: keep the smallest set of tokens that reaches this probability.
        min_p: keep tokens at least this share as likely as the most likely one.

    Raises:
        ValueError: a value of another type, or outside its range; the message gives the range.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 <= self.temperature < math.inf:
            raise ValueError(
                tr(
                    "temperature is {temperature}: expected 0 (greedy) or more",
                    temperature=self.temperature,
                )
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(
                tr("top_k is {top_k}: expected 1 or more, or None for all tokens", top_k=self.top_k)
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(
                tr("top_p is {top_p}: expected a share above 0 and at most 1", top_p=self.top_p)
            )
        if not 0 <= self.min_p <= 1:
            raise ValueError(tr("min_p is {min_p}: expected a share from 0 to 1", min_p=self.min_p))

    @classmethod
    def greedy(cls) -> "Sampling":
        """The most likely token, always."""
        return cls()

    @classmethod
    def published(cls, *, thinking: bool) -> "Sampling":
        """The values that Qwen3's model cards recommend for each mode."""
        if thinking:
            return cls(temperature=0.6, top_k=20, top_p=0.95)
        return cls(temperature=0.7, top_k=20, top_p=0.8)

    def probabilities(self, logits: Float[Tensor, "batch vocab"]) -> Float[Tensor, "batch vocab"]:
        """The sampling distribution, in float32; filtered tokens have probability 0."""
        probabilities, token_ids = self.candidates(logits)
        return torch.zeros_like(logits, dtype=torch.float32).scatter(-1, token_ids, probabilities)

    def candidates(
        self, logits: Float[Tensor, "batch vocab"]
    ) -> tuple[Float[Tensor, "batch candidate"], Int[Tensor, "batch candidate"]]:
        """Probabilities and ids of the tokens that pass the filters, the most likely first.

        With `top_k`, only the `top_k + MAX_TIES` largest logits are sorted: much faster than
        sorting the whole vocabulary.
        """
        if self.temperature == 0:
            best = logits.argmax(dim=-1, keepdim=True)
            return torch.ones_like(best, dtype=torch.float32), best
        scaled, n = logits.float(), logits.shape[-1]
        if self.temperature < SMALL_TEMPERATURE:  # The quotients would be infinite.
            scaled = scaled - scaled.max(dim=-1, keepdim=True).values
        scaled = scaled / max(self.temperature, MIN_DIVISOR)
        if self.top_k is None or self.top_k >= n:
            scaled, token_ids = scaled.sort(dim=-1, descending=True)
        else:
            scaled, token_ids = scaled.topk(min(self.top_k + MAX_TIES, n), dim=-1)
            weakest = scaled[:, self.top_k - 1, None]
            scaled = scaled.masked_fill(scaled < weakest, -torch.inf)
        probabilities = scaled.softmax(dim=-1)
        if self.top_p < 1:
            before = probabilities.cumsum(dim=-1) - probabilities
            probabilities = probabilities.masked_fill(before >= self.top_p, 0)
        if self.min_p > 0:
            threshold = self.min_p * probabilities[:, :1]
            probabilities = probabilities.where(probabilities >= threshold, 0)
        return probabilities / probabilities.sum(dim=-1, keepdim=True), token_ids


def random_stream(sampling: Sampling, seed: int, *, skip: int = 0) -> torch.Generator:
    """The random numbers of one row.

    Args:
        sampling: greedy sampling uses none.
        seed: of the row.
        skip: numbers that the row has used already.
    """
    stream = torch.Generator().manual_seed(seed)
    for _ in range(skip if sampling.temperature > 0 else 0):
        torch.rand((), generator=stream)
    return stream


class Sampler:
    """Draws tokens; each row of a batch has its own random stream.

    A row's tokens therefore do not depend on the other rows. Every step uses one random number
    per row, even if a guide then inserts a token: the number depends only on the seed and the
    step.

    Args:
        sampling: temperature and filters.
        seeds: one per row.
        skip: random numbers that each row has used already, and that are skipped; none by default.

    Attributes:
        streams: the random stream of each row.
    """

    def __init__(
        self, sampling: Sampling, *, seeds: Sequence[int], skip: Sequence[int] = ()
    ) -> None:
        self.sampling = sampling
        skipped = [*skip, *[0] * len(seeds)]
        self.streams = [
            random_stream(sampling, seed, skip=used)
            for seed, used in zip(seeds, skipped, strict=False)
        ]

    @classmethod
    def of(cls, sampling: Sampling, streams: Sequence[torch.Generator]) -> "Sampler":
        """A sampler whose rows draw from these streams, which others may use before and after."""
        sampler = cls(sampling, seeds=())
        sampler.streams = list(streams)
        return sampler

    @classmethod
    def in_a_row(
        cls,
        sampling: Sampling,
        rows: int,
        seed: int | None = None,
        *,
        skip: Sequence[int] = (),
    ) -> "Sampler":
        """A sampler that seeds row `i` with `seed + i`; None picks a random seed.

        Raises:
            ValueError: the last row's seed is too large for torch's generator.
        """
        first = secrets.randbits(62) if seed is None else seed
        if first + rows > 2**64:
            raise ValueError(
                tr(
                    "seed is {first}, and row {last} draws with seed + {last}: expected at "
                    "most 2**64 - {rows}",
                    first=first,
                    last=rows - 1,
                    rows=rows,
                )
            )
        return cls(sampling, seeds=range(first, first + rows), skip=skip)

    def draw(self, logits: Float[Tensor, "batch vocab"]) -> Int[Tensor, " batch"]:
        """One token per row."""
        if self.sampling.temperature == 0:
            return logits.argmax(dim=-1)
        probabilities, token_ids = self.sampling.candidates(logits)
        cumulative = probabilities.cumsum(dim=-1)
        uniform = torch.stack([torch.rand((), generator=stream) for stream in self.streams])
        # Rounding must not select a token beyond the last one with a probability above 0.
        last = ((probabilities > 0).sum(dim=-1, keepdim=True) - 1).clamp(min=0)
        uniform = uniform.to(cumulative, non_blocking=cumulative.is_cuda)
        place = (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(dim=-1, keepdim=True)
        return token_ids.gather(-1, place.minimum(last))[:, 0]
