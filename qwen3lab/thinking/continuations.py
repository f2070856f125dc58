"""Samples continuations of a conversation that ends within a reply's thinking."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qwen3lab.generation.decoding import decode
from qwen3lab.generation.sampling import Sampler, Sampling
from qwen3lab.generation.thinking_control import ReplyGuide, marks_of
from qwen3lab.lab import Lab
from qwen3lab.model.batching import pad_left
from qwen3lab.text.tokenizer import token_texts
from qwen3lab.thinking.pieces import Every, piece_ends


@dataclass(frozen=True)
class Continuations:
    """Sampled continuations: the remaining thinking tokens, and the answer of each."""

    thoughts: list[list[int]]
    answers: list[str]


class ContinuationSampler:
    """Samples continuations of a token sequence in one batch."""

    def __init__(
        self, lab: Lab, sampling: Sampling, samples: int, seed: int, max_new_tokens: int
    ) -> None:
        self.lab, self.sampling, self.samples, self.seed = lab, sampling, samples, seed
        self.max_new_tokens = max_new_tokens
        self.marks = marks_of(lab.tokenizer)

    def draw(self, prefix: Sequence[int]) -> Continuations:
        """Sample continuations of a conversation that ends within its reply."""
        guides = [ReplyGuide(self.marks) for _ in range(self.samples)]
        ids_before = list(prefix)
        start = (
            len(ids_before) - 1 - ids_before[::-1].index(self.marks.think)
            if (self.marks.think in ids_before)
            else len(ids_before)
        )
        for guide in guides:
            for token in ids_before[start:]:
                guide.take(token)
        ids, _ = pad_left([ids_before[:-1]], self.lab.model.device)
        cache = self.lab.model.new_cache(capacity=len(ids_before))
        with self.lab.lock:
            with torch.no_grad():
                self.lab.model(ids, cache=cache, last_only=True)
            steps = decode(
                self.lab.decoder,
                [ids_before[-1:]] * self.samples,
                sampler=Sampler(self.sampling, seeds=range(self.seed, self.seed + self.samples)),
                guides=guides,
                max_new_tokens=min(self.max_new_tokens, self.lab.config.n_ctx - len(ids_before)),
                cache=cache.select([0] * self.samples),
            )
            for _ in steps:
                pass
        return Continuations(
            [self._thinking(guide.token_ids[len(ids_before) - start :]) for guide in guides],
            [self._text(guide.answer_ids) for guide in guides],
        )

    def starts_differently(
        self, thinking: Sequence[int], part: Sequence[int], every: Every
    ) -> bool:
        """True if the first piece of a thinking differs from a part, whitespace aside."""
        length = every if isinstance(every, str) else len(part)
        ends = piece_ends(token_texts(self.lab.tokenizer, thinking), length)
        return self._without_whitespace(thinking[: ends[0]]) != self._without_whitespace(part)

    def _without_whitespace(self, token_ids: Sequence[int]) -> str:
        return "".join(self._text(token_ids).split())

    def _thinking(self, token_ids: Sequence[int]) -> list[int]:
        """The tokens before the end of the thinking, or before the end of the reply."""
        end_tokens = {self.marks.end_think, *self.marks.ends}
        return list(itertools.takewhile(lambda token: token not in end_tokens, token_ids))

    def _text(self, token_ids: Sequence[int]) -> str:
        kept = [token for token in token_ids if token not in self.marks.ends]
        return self.lab.tokenizer.decode(kept, skip_special_tokens=False).strip()
