"""Answers from several points of one finished thinking text.

The answers are a batch with one KV cache. To answer from an earlier point, `Replies` rewinds the
cache to that point, inserts the early-stop sentence, and generates only the answer.
"""

import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from qwen3lab.acceleration.cuda_graph_decoder import CudaGraphDecoder, decoder_for
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.generation.decoding import Decoder, decode
from qwen3lab.generation.reply import trimmed
from qwen3lab.generation.sampling import Sampler, Sampling
from qwen3lab.generation.thinking_control import ReplyGuide, Stop
from qwen3lab.lab import Lab
from qwen3lab.model.batching import pad_left
from qwen3lab.text.tokenizer import token_texts

OPENING_TOKENS = 2
"""Number of tokens at the start of a thinking block: `<think>` and a line break."""


@dataclass(frozen=True)
class Answer:
    """An answer after a number of thinking tokens.

    Attributes:
        text: the answer without surrounding whitespace; empty if the thinking did not end.
        thinking_tokens: number of thinking tokens before the answer.
        answer_tokens: number of tokens of the answer.
        reply_tokens: number of all tokens of the reply, including `<think>`, `</think>`, inserted
            tokens and the end token.
        stop: why the reply ended, as in `Generation`.
        cut: True if the budget ended the thinking.
    """

    text: str
    thinking_tokens: int
    answer_tokens: int
    reply_tokens: int
    stop: Stop
    cut: bool


@dataclass(frozen=True)
class Cut:
    """The cut of a reply by a budget.

    Attributes:
        guide: a guide that has followed the reply up to the cut.
        kept: number of reply tokens before the cut.
    """

    guide: ReplyGuide
    kept: int

    def inserted(self) -> list[int]:
        """Pass the tokens of the early-stop sentence to the guide, and return them."""
        tokens = list(self.guide.inserts)
        for token in tokens:
            self.guide.next(token)
            self.guide.take(token)
        return tokens


class Replies:
    """A batch of replies that think once and answer within several budgets.

    Within every budget, row `i` generates the same reply as `lab.chat` with the same sampling and
    the seed `seeds[i]`, because the random number of a step depends only on the seed and on the
    index of the step.

    Args:
        lab: the model.
        prompts: token ids of the prompts.
        sampling: how tokens are sampled.
        seeds: one seed per prompt.
        answer_tokens: maximum number of tokens of an answer.
        cancel: event that ends a generation after its next token when another thread sets it.

    Attributes:
        guides: the guides of the rows, with the tokens of the longest replies.
    """

    def __init__(
        self,
        lab: Lab,
        prompts: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        seeds: Sequence[int],
        answer_tokens: int,
        cancel: threading.Event | None = None,
    ) -> None:
        self.cancel = cancel
        self.lab, self.prompts, self.seeds = lab, prompts, list(seeds)
        self.sampling, self.answer_tokens = sampling, answer_tokens
        self.marks = lab.marks
        self.width = max(len(prompt) for prompt in prompts)
        self.decoder = own_decoder(lab)
        with lab.lock:
            self.cache = self.decoder.new_cache(batch=len(prompts), capacity=2 * self.width)
        self.guides: list[ReplyGuide] = []

    def take(
        self, token_ids: Sequence[int], inserted: Sequence[bool], *, most: int | None = None
    ) -> None:
        """Load a finished reply into all rows, which must have the same prompt.

        Args:
            token_ids: token ids of the reply.
            inserted: for each token, True if it was inserted and not generated.
            most: load this many thinking tokens; None for the whole reply.
        """
        guide = self._guide(self.prompts[0], None)
        for token, forced in zip(token_ids, inserted, strict=True):
            if most is not None and guide.part == "thinking" and guide.n_thinking >= most:
                break
            guide.take(token, inserted=forced)
        ids, _ = pad_left([[*self.prompts[0], *guide.token_ids]], self.lab.model.device)
        cache = self.lab.model.new_cache(capacity=ids.shape[1])
        with self.lab.lock:
            without_grad(self.lab.model)(ids, cache=cache, last_only=True)
        self.cache = cache.select([0] * len(self.prompts))
        self.guides = [guide] * len(self.prompts)

    def answer(self, budget: int) -> list[Answer | None]:
        """The answers within a budget that is smaller than all earlier ones.

        None for rows whose thinking ended within the budget: their answer is that of the reply.
        """
        return self._answer(
            [
                cut_of(self._guide(prompt, budget), guide)
                for prompt, guide in zip(self.prompts, self.guides, strict=True)
            ]
        )

    def _answer(self, cuts: Sequence[Cut | None]) -> list[Answer | None]:
        """The answers after these cuts of the rows; None for a row without one."""
        kept = [cut.kept for cut in cuts if cut is not None]
        if not kept:
            return [None] * len(cuts)
        # Rows that this budget does not cut keep their tokens: a smaller budget may cut them.
        ends = torch.tensor([self.width + (cut.kept if cut else max(kept)) for cut in cuts])
        with self.lab.lock:
            self.cache.forget(ends)
        inserted = [cut.inserted() if cut else [] for cut in cuts]
        self._generate(
            inserted,
            [
                cut.guide if cut else self._guide(prompt, None)
                for prompt, cut in zip(self.prompts, cuts, strict=True)
            ],
            skip=[
                cut.kept + len(new) if cut else 0 for cut, new in zip(cuts, inserted, strict=True)
            ],
        )
        return [read_answer(self.lab.tokenizer, cut.guide) if cut else None for cut in cuts]

    def _guide(self, prompt: Sequence[int], budget: int | None) -> ReplyGuide:
        return ReplyGuide(
            self.marks, budget=budget, answer_tokens=self.answer_tokens, prompt_ids=prompt
        )

    def _generate(
        self,
        prompts: Sequence[Sequence[int]],
        guides: Sequence[ReplyGuide],
        *,
        skip: Sequence[int],
    ) -> None:
        """Generates until every guide ends its row; the lab is locked during each step."""
        steps = decode(
            self.decoder,
            prompts,
            sampler=Sampler(self.sampling, seeds=self.seeds, skip=skip),
            guides=guides,
            max_new_tokens=self.answer_tokens + 1,
            cache=self.cache,
            cancel=self.cancel,
        )
        with closing(steps):
            while True:
                with self.lab.lock:
                    if next(steps, None) is None:
                        return


def cut_of(guide: ReplyGuide, written: ReplyGuide) -> Cut | None:
    """The cut of a finished reply by a guide's budget; None if the reply ends before it.

    Args:
        guide: a guide that has taken no token yet; it follows the reply up to the cut.
        written: the guide of the reply.
    """
    if guide.inserts:
        return Cut(guide, 0)
    pairs = zip(written.token_ids, written.inserted, strict=True)
    for kept, (token, forced) in enumerate(pairs, start=1):
        if guide.take(token, inserted=forced):
            return None
        if guide.inserts:
            return Cut(guide, kept)
    return None


def read_answer(tokenizer: Any, guide: ReplyGuide) -> Answer:
    """The answer at the end of a reply."""
    ids = [token for token in guide.answer_ids if token not in guide.marks.ends]
    first, end = trimmed(token_texts(tokenizer, ids), 0, len(ids))
    return Answer(
        text=tokenizer.decode(ids[first:end], skip_special_tokens=False).strip(),
        thinking_tokens=guide.n_thinking,
        answer_tokens=end - first,
        reply_tokens=len(guide.token_ids),
        stop=guide.stop,
        cut=guide.cut_by_budget,
    )


def own_decoder(lab: Lab) -> Decoder:
    """The lab's decoder; on a GPU a new one, which shares the weights and has captured no step.

    Captured steps round otherwise than others, so that a batch would depend on those before it.
    """
    return decoder_for(lab.model) if isinstance(lab.decoder, CudaGraphDecoder) else lab.decoder
