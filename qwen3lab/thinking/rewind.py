"""Generates thinking once and answers from any point of it, by rewinding the KV cache.

All replies are rows of one batched KV cache. To answer from an earlier point, the cache is
truncated to that point, the early-stop sentence is inserted, and only the answer is generated.
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
"""Tokens before the thinking: `<think>`, and the line break after it."""


@dataclass(frozen=True)
class Answer:
    """The answer after some number of thinking tokens.

    Attributes:
        text: the answer, stripped; "" if the thinking did not end.
        thinking_tokens: thinking tokens before the answer.
        answer_tokens: tokens of the answer.
        reply_tokens: all tokens of the reply, including special and inserted tokens.
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
    """A reply cut by the budget: its guide, and the number of tokens kept before the cut."""

    guide: ReplyGuide
    kept: int

    def insert(self) -> list[int]:
        """Insert the early-stop tokens into the guide's reply; returns them."""
        tokens = list(self.guide.inserts)
        for token in tokens:
            self.guide.next(token)
            self.guide.take(token)
        return tokens


class Replies:
    """Replies to several prompts that share one thinking across budgets.

    For every budget, row `i` equals the reply of `lab.chat` with the same sampling and the seed
    `seeds[i]`, because each random draw depends only on the seed and the number of the step.

    Args:
        lab: the model.
        prompts: token ids, up to the start of each reply.
        sampling: sampling parameters.
        seeds: one per prompt.
        answer_tokens: maximum length of an answer.

    Attributes:
        guides: one per row, with the tokens of the run with the largest budget.
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
        """Generate thinking and answers with a budget; call this first, with the largest budget."""
        self.guides = [self._guide(prompt, budget) for prompt in self.prompts]
        most = OPENING + budget + len(self.marks.early_stop) + self.answer_tokens + 1
        self._write(self.prompts, self.guides, skip=(), most=most)
        return [self._read(guide) for guide in self.guides]

    def take(self, token_ids: Sequence[int], inserted: Sequence[bool]) -> None:
        """Use an existing reply as the thinking of all rows, which must have the same prompt.

        Args:
            token_ids: of the reply.
            inserted: for each token, True if it was inserted and not sampled.
        """
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
        """Answers with a budget smaller than in all earlier calls.

        None for a row whose thinking ended before the budget: its first answer is still valid.
        """
        cuts = [
            self._cut(self._guide(prompt, budget), guide)
            for prompt, guide in zip(self.prompts, self.guides, strict=True)
        ]
        kept = [cut.kept for cut in cuts if cut is not None]
        if not kept:
            return [None] * len(cuts)
        # Rows without a cut are kept complete; a smaller budget may cut them later.
        ends = torch.tensor([self.width + (cut.kept if cut else max(kept)) for cut in cuts])
        with self.lab.lock:
            self.cache.forget(ends)
        inserted = [cut.insert() if cut else [] for cut in cuts]
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
        """Where a guide's budget cuts a generated reply; None if the thinking ends first."""
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
