"""Replies that are thought once, and answered from any point of the thinking.

They stand side by side in one key/value cache. To answer from an earlier point the cache is
rewound to it, the early-stop sentence is put there, and only the answer is written anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qwen3lab.generation.decoding import decode
from qwen3lab.generation.reply import trimmed
from qwen3lab.generation.sampling import Sampler, Sampling
from qwen3lab.generation.thinking_control import ReplyGuide, Stop, marks_of
from qwen3lab.lab import Lab
from qwen3lab.model.batching import pad_left
from qwen3lab.text.tokenizer import token_texts

OPENING = 2
"""`<think>`, and the line break after it."""


@dataclass(frozen=True)
class Answer:
    """What was answered after so much thinking.

    Attributes:
        text: the answer, stripped; empty if the thinking never ended.
        thinking_tokens: tokens that the model had spent on thinking.
        answer_tokens: tokens of the answer.
        reply_tokens: all tokens of the reply: marks, what was inserted, and its end as well.
        stop: as in `Generation`.
        cut: True if the budget ended the thinking.
    """

    text: str
    thinking_tokens: int
    answer_tokens: int
    reply_tokens: int
    stop: Stop
    cut: bool


@dataclass(frozen=True)
class _Cut:
    """A reply that is cut: the guide that is about to insert, and the tokens kept before."""

    guide: ReplyGuide
    kept: int

    def inserted(self) -> list[int]:
        """Let the guide insert what it is about to."""
        new = list(self.guide.inserts)
        for token in new:
            self.guide.next(token)
            self.guide.take(token)
        return new


class Replies:
    """Replies to several prompts, thought once.

    Row `i` writes what `lab.chat` writes with the same sampling and the seed `seeds[i]`,
    whatever budget it is answered within, because what is drawn at a step depends on the seed
    and the step's number alone.

    Args:
        lab: the model.
        prompts: token ids, up to where each reply begins.
        sampling: how tokens are drawn.
        seeds: one per prompt.
        answer_tokens: longest answer.

    Attributes:
        guides: of the rows, with all that was written when they thought.
    """

    def __init__(
        self,
        lab: Lab,
        prompts: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        seeds: Sequence[int],
        answer_tokens: int,
    ) -> None:
        self.lab, self.prompts, self.seeds = lab, prompts, list(seeds)
        self.sampling, self.answer_tokens = sampling, answer_tokens
        self.marks = marks_of(lab.tokenizer)
        self.width = max(len(prompt) for prompt in prompts)
        with lab.lock:
            self.cache = lab.decoder.new_cache(batch=len(prompts), capacity=2 * self.width)
        self.guides: list[ReplyGuide] = []

    def think(self, budget: int) -> list[Answer]:
        """Think and answer within a budget; the longest one comes first."""
        self.guides = [self._guide(prompt, budget) for prompt in self.prompts]
        most = OPENING + budget + len(self.marks.early_stop) + self.answer_tokens + 1
        self._write(self.prompts, self.guides, skip=(), most=most)
        return [self._read(guide) for guide in self.guides]

    def take(self, token_ids: Sequence[int], inserted: Sequence[bool]) -> None:
        """Take a reply as written: every row has the same prompt and thinks the same."""
        ids, _ = pad_left([[*self.prompts[0], *token_ids]], self.lab.model.device)
        cache = self.lab.model.new_cache(capacity=ids.shape[1])
        with self.lab.lock, torch.no_grad():
            self.lab.model(ids, cache=cache, last_only=True)
        self.cache = cache.select([0] * len(self.prompts))
        guide = self._guide(self.prompts[0], None)
        for token, forced in zip(token_ids, inserted, strict=True):
            guide.take(token, inserted=forced)
        self.guides = [guide] * len(self.prompts)

    def answer(self, budget: int) -> list[Answer | None]:
        """Answer within a smaller budget than any before; None where the thinking ended sooner.

        Such a row's answer is the one that it gave when it thought.
        """
        cuts = [
            self._cut(self._guide(prompt, budget), guide)
            for prompt, guide in zip(self.prompts, self.guides, strict=True)
        ]
        kept = [cut.kept for cut in cuts if cut is not None]
        if not kept:
            return [None] * len(cuts)
        # A row that is not cut is kept whole: its own turn comes with a smaller budget.
        ends = torch.tensor([self.width + (cut.kept if cut else max(kept)) for cut in cuts])
        with self.lab.lock:
            self.cache.forget(ends)
        inserted = [cut.inserted() if cut else [] for cut in cuts]
        self._write(
            inserted,
            [
                cut.guide if cut else self._guide(prompt, budget)
                for prompt, cut in zip(self.prompts, cuts, strict=True)
            ],
            skip=[
                cut.kept + len(new) if cut else 0 for cut, new in zip(cuts, inserted, strict=True)
            ],
            most=self.answer_tokens + 1,
        )
        return [self._read(cut.guide) if cut else None for cut in cuts]

    def _guide(self, prompt: Sequence[int], budget: int | None) -> ReplyGuide:
        return ReplyGuide(
            self.marks, budget=budget, answer_tokens=self.answer_tokens, prompt_ids=prompt
        )

    @staticmethod
    def _cut(guide: ReplyGuide, written: ReplyGuide) -> "_Cut | None":
        """Where a guide with a budget cuts what was written; None if that ends before."""
        if guide.inserts:
            return _Cut(guide, 0)
        pairs = zip(written.token_ids, written.inserted, strict=True)
        for kept, (token, forced) in enumerate(pairs, start=1):
            if guide.take(token, inserted=forced):
                return None
            if guide.inserts:
                return _Cut(guide, kept)
        return None

    def _write(
        self,
        prompts: Sequence[Sequence[int]],
        guides: Sequence[ReplyGuide],
        *,
        skip: Sequence[int],
        most: int,
    ) -> None:
        steps = decode(
            self.lab.decoder,
            prompts,
            sampler=Sampler(self.sampling, seeds=self.seeds, skip=skip),
            guides=guides,
            max_new_tokens=most,
            cache=self.cache,
        )
        with self.lab.lock:
            for _ in steps:
                pass

    def _read(self, guide: ReplyGuide) -> Answer:
        ids = [token for token in guide.answer_ids if token not in self.marks.ends]
        first, end = trimmed(token_texts(self.lab.tokenizer, ids), 0, len(ids))
        text = self.lab.tokenizer.decode(ids[first:end], skip_special_tokens=False).strip()
        return Answer(
            text=text,
            thinking_tokens=guide.n_thinking,
            answer_tokens=end - first,
            reply_tokens=len(guide.token_ids),
            stop=guide.stop,
            cut=guide.cut_by_budget,
        )
