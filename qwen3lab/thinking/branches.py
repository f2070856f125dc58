"""Replies that think once, and from which answers within smaller budgets branch off.

All replies and answers are rows of one `RowPool`. When a reply has ended, its cached tokens are
kept, and for each smaller budget a row joins that follows them up to the cut.
"""

from collections.abc import Generator, Sequence
from contextlib import closing

from qwen3lab.generation.pooled_rows import Past, PooledRow, rows_of
from qwen3lab.generation.row_pool import RowPool
from qwen3lab.generation.sampling import Sampling, random_stream
from qwen3lab.generation.shared_prefixes import shared_prefixes
from qwen3lab.generation.thinking_control import ReplyGuide
from qwen3lab.lab import Lab
from qwen3lab.thinking.rewind import OPENING_TOKENS, Answer, cut_of, own_decoder, read_answer

STEPS_BETWEEN_CHECKS = 32
"""Decoding steps after which control is given back, also if no reply is complete."""


class BranchedReplies:
    """Replies, each with its answers within several budgets.

    Within every budget, reply `i` is that of `lab.chat` with the same sampling and the seed
    `seeds[i]`, because the random number of a step depends only on the seed and on the index of the
    step.

    Args:
        lab: the model.
        prompts: token ids of the prompts.
        sampling: how tokens are sampled.
        seeds: one seed per prompt.
        answer_tokens: maximum number of tokens of an answer.
        batch: number of rows that are decoded at once.

    Attributes:
        guides: the guides of the replies within the largest budget.
        n_steps: decoding steps so far.
    """

    def __init__(
        self,
        lab: Lab,
        prompts: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        seeds: Sequence[int],
        answer_tokens: int,
        batch: int,
    ) -> None:
        self.lab, self.prompts, self.seeds = lab, prompts, list(seeds)
        self.sampling, self.answer_tokens, self.batch = sampling, answer_tokens, batch
        self.marks = lab.marks
        self.guides: list[ReplyGuide] = []
        self.n_steps = 0
        self._branches: dict[int, list[ReplyGuide | None]] = {}
        self._owners: dict[int, int] = {}

    def answers(self, budgets: Sequence[int]) -> list[tuple[Answer, ...]]:
        """All answers of `steps`, by reply."""
        found = dict(pair for pairs in self.steps(budgets) for pair in pairs)
        return [found[reply] for reply in range(len(self.prompts))]

    def steps(
        self, budgets: Sequence[int]
    ) -> Generator[list[tuple[int, tuple[Answer, ...]]], None, None]:
        """Generate all replies and answers; the lab is locked during each step.

        Args:
            budgets: thinking budgets in tokens, ascending.

        Yields:
            The replies that are complete since the last time, each with its answers within the
            budgets; maybe none.
        """
        *smaller, largest = budgets
        pool = self._pool(largest)
        open_rows = {number: {number} for number in range(len(self.prompts))}
        with closing(pool.steps()) as steps:
            while True:
                with self.lab.lock:
                    if (step := next(steps, None)) is None:
                        return
                    for row in step.ended:
                        if row.number < len(self.prompts):
                            self._owners[row.number] = row.number
                            open_rows[row.number] |= self._branch(pool, row, smaller)
                        open_rows[self._owners[row.number]].discard(row.number)
                complete = [reply for reply in open_rows if not open_rows[reply]]
                for reply in complete:
                    del open_rows[reply]
                self.n_steps += 1
                if complete or self.n_steps % STEPS_BETWEEN_CHECKS == 0:
                    yield [(reply, self._answers_of(reply)) for reply in complete]

    def _pool(self, budget: int) -> RowPool:
        """The rows of the replies within the largest budget, none of them read yet."""
        n_fixed = OPENING_TOKENS + len(self.marks.early_stop) + 1
        most = budget + self.answer_tokens + n_fixed
        self.guides = [self._guide(prompt, budget, most) for prompt in self.prompts]
        streams = [random_stream(self.sampling, seed) for seed in self.seeds]
        shared = shared_prefixes(self.prompts)
        decoder = own_decoder(self.lab)
        longest = max(map(len, self.prompts)) + most
        return RowPool(
            decoder,
            rows_of(self.prompts, self.guides, streams, shared=shared),
            sampling=self.sampling,
            batch=self.batch,
            reader=None if decoder is self.lab.model else self.lab.model,
            capacity=min(longest, 4096),
        )

    def _branch(self, pool: RowPool, row: PooledRow, smaller: Sequence[int]) -> set[int]:
        """Let a row join for each smaller budget that cuts the ended reply; their numbers."""
        prompt, guide = self.prompts[row.number], self.guides[row.number]
        cuts = [cut_of(self._guide(prompt, budget), guide) for budget in smaller]
        self._branches[row.number] = [cut.guide if cut else None for cut in cuts]
        kept = [cut for cut in cuts if cut is not None]
        if not kept:
            return set()
        cache, rows = pool.taken(row), []
        for cut in kept:
            before = [*prompt, *guide.token_ids[: cut.kept]]
            inserted = cut.inserted()
            cut.guide.max_new_tokens = len(cut.guide.token_ids) + self.answer_tokens + 1
            used = cut.kept + len(inserted)
            stream = random_stream(self.sampling, self.seeds[row.number], skip=used)
            number = len(self.prompts) + len(self._owners)
            self._owners[number] = row.number
            rows.append(PooledRow(number, inserted, cut.guide, stream, Past(before, cache)))
        pool.add_first(rows)
        return {each.number for each in rows}

    def _answers_of(self, reply: int) -> tuple[Answer, ...]:
        """The answers within the smaller budgets, and within the largest one.

        Thinking that ended within a smaller budget has the same answer as within the largest.
        """
        whole, branches = self.guides[reply], self._branches[reply]
        guides = [*(branch or whole for branch in branches), whole]
        return tuple(read_answer(self.lab.tokenizer, guide) for guide in guides)

    def _guide(self, prompt: Sequence[int], budget: int, most: int | None = None) -> ReplyGuide:
        guide = ReplyGuide(
            self.marks, budget=budget, answer_tokens=self.answer_tokens, prompt_ids=prompt
        )
        guide.max_new_tokens = most
        return guide
