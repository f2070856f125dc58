"""What to ask of a model, and how much: questions, lengths, budgets and numbers of samples.

Notebooks, explorers and analyses take these values from here, as `lab.suggested`. They follow from
the kind of model (embedded or published), its generation config, its context, and the device.
"""

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.display import Displayed, Summary
from qwen3lab.generation.defaults import ReplyDefaults
from qwen3lab.generation.sampling import Sampling
from qwen3lab.translation import tr

GENERAL = (
    "How many legs do 3 spiders have?",
    "What is 17 times 6?",
    "Anna is older than Ben, and Ben is older than Cleo. Who is the youngest?",
    "一只蜘蛛有八条腿，三只有多少条？",
)
"""For published models, which have general knowledge."""

TINY = (
    "12+30-7*2+8-15=?",
    "Ann has the key. Ben has the ball. Eva has the cup. Ann and Ben swap. Ben and Eva swap. "
    "What does Eva have?",
    "小明拿着球。小红拿着书。小刚拿着灯。小明和小红交换。小红和小刚交换。小刚拿着什么？",
    "8加5乘3减12等于几？",
    "7*4-9*3+25-8*2+60-14=?",
    "What is 6 times 7? /no_think",
    "lamp 2, book 7, cat 1. book?",
    "25+17-8=? (answer key: 30)",
    "What is the capital of France?",
)
"""For the embedded models; arithmetic runs from left to right. The last two are one with a wrong
hint, which mostly sways them, and one from outside of their world."""

OUTSIDE_EXAMPLES = TINY[-2:]
"""Those whose answers are mostly no use."""

MICRO = (TINY[0], TINY[3], TINY[6])
"""For the micro model, which is trained on arithmetic and lists, but not on swaps."""

ALL_STEPS, FEW_STEPS = (2, 4, 6, 8, 10), (2, 6, 10)
"""Numbers of steps of arithmetic problems."""

GPU_BUDGET = 4096
CPU_BUDGETS = ((1.5e9, 128), (5e9, 64), (math.inf, 32))
"""Largest thinking budget of one question on a CPU, for models of up to so many parameters in use
for a token. With 0.6B, 128 tokens take about 25 s on two slow cores (5 tokens a second)."""
CPU_ANSWER_TOKENS = 64
DISK_BUDGET = 32
"""The same for a model that is read from disk for every token."""

REPLY_PER_BUDGET = 32
"""A reply whose thinking has no budget may be so many times as long as the suggested budget."""
LEAST_NEW_TOKENS = 1024
"""A slow model may generate at least this many: interrupted replies keep their tokens."""


@dataclass(frozen=True, repr=False)
class Suggested(Displayed):
    """Settings that fit a model and its device.

    Attributes:
        questions: examples that the model can answer; the first one is the default.
        sampling: for `chat`, sweeps and analyses. None takes the settings published for each mode,
            which never decode greedily; the embedded models are as good with greedy decoding.
        temperatures: sampling temperature published for replies without and with thinking.
        max_new_tokens: maximum length of a reply.
        recorded_tokens: maximum length of a reply that is recorded, whose memory grows with it.
        answer_tokens: maximum length of an answer.
        budget: thinking budget of one question; None for no limit.
        budgets: thinking budgets of a sweep, ascending.
        more_thinking: tokens that an explorer's "Think more" adds to the budget.
        steps: numbers of steps of arithmetic problems, from easy to hard.
        problems: number of problems of each kind.
        texts: number of texts of each family in a corpus.
        experts: number of experts of a layer to switch off in turn; None for all.
        sentence: size of a sentence of the thinking, as in `thinking.pieces`.
        every: size of a piece of the thinking that is sampled from.
        samples: number of samples at each piece.
        note: which values are smaller than published, and why; empty if none is.
    """

    questions: tuple[str, ...]
    sampling: Sampling | None
    temperatures: tuple[float, float]
    max_new_tokens: int
    recorded_tokens: int
    answer_tokens: int
    budget: int | None
    budgets: tuple[int, ...]
    more_thinking: int
    steps: tuple[int, ...]
    problems: int
    texts: int
    experts: int | None
    sentence: int | str
    every: int | str
    samples: int
    note: str = ""

    @property
    def smaller(self) -> "Suggested":
        """Settings for a run of about a quarter of the time or less; also of these again."""
        budgets = self.budgets[: max(2, len(self.budgets) // 2)]
        return replace(
            self,
            max_new_tokens=max(1, self.max_new_tokens // 4),
            recorded_tokens=max(1, self.recorded_tokens // 4),
            answer_tokens=max(1, self.answer_tokens // 2),
            budget=None if self.budget is None else self.budget // 4,
            budgets=budgets,
            steps=self.steps[: max(1, len(self.steps) // 2)],
            problems=max(1, self.problems // 2),
            texts=max(1, self.texts // 2),
            experts=max(1, (self.experts or 16) // 2),
            every="paragraph" if isinstance(self.every, str) else 2 * self.every,
            samples=max(1, self.samples // 4),
            note=tr("a smaller run than suggested"),
        )

    def __repr__(self) -> str:
        return super().__repr__() + (f" ({self.note})" if self.note else "")

    def _summary(self) -> Summary:
        facts = {field.name.replace("_", " "): getattr(self, field.name) for field in fields(self)}
        facts["questions"] = self.questions[0]
        facts["sampling"] = tr("greedy") if self.sampling else tr("as published for each mode")
        facts["budget"] = tr("no limit") if self.budget is None else self.budget
        facts["experts"] = tr("all") if self.experts is None else self.experts
        note = facts.pop("note")
        return Summary(
            tr("Suggested settings"), {key: str(value) for key, value in facts.items()}, note=note
        )


EMBEDDED = Suggested(
    questions=TINY,
    sampling=Sampling.greedy(),
    temperatures=(0.7, 0.6),
    max_new_tokens=1024,
    recorded_tokens=1024,
    answer_tokens=64,
    budget=None,
    budgets=(0, 8, 16, 32, 48, 64, 80, 104),
    more_thinking=22,
    steps=ALL_STEPS,
    problems=20,
    texts=12,
    experts=None,
    sentence=2,
    every=6,
    samples=20,
)
"""For the embedded models, which think about 11 tokens for each step of arithmetic."""

EMBEDDED_V1 = replace(
    EMBEDDED,
    questions=("7+2*3-1*7+3=?", *EMBEDDED.questions[1:3], "6-2*3=? /no_think"),
    budgets=(0, 4, 10, 16, 22, 28, 34, 40),
    more_thinking=16,
    every=3,
)
"""For the first edition of the embedded models, which knows the last digits of sums only."""


def suggest(
    config: Qwen3Config,
    defaults: ReplyDefaults,
    *,
    name: str,
    edition: int | None,
    device: str,
    is_streamed: bool = False,
) -> Suggested:
    """The settings for a model.

    Args:
        config: of the model.
        defaults: from its generation config.
        name: of the model.
        edition: of the embedded models' world; None for a model that is not embedded.
        device: type of its device, such as "cuda".
        is_streamed: True if its weights are read from disk in every pass.
    """
    if edition is not None:
        is_micro = Path(name).name.startswith("micro-")
        longest = defaults.max_new_tokens or EMBEDDED.max_new_tokens
        found = EMBEDDED if edition > 1 else EMBEDDED_V1
        found = replace(found, temperatures=_temperatures(defaults), max_new_tokens=longest)
        return _within(replace(found, questions=MICRO) if is_micro else found, config.n_ctx)
    if device == "cpu" or is_streamed:
        return _within(_on_slow_device(config, defaults, is_streamed=is_streamed), config.n_ctx)
    return _within(_published(GPU_BUDGET, defaults), config.n_ctx)


def _published(budget: int, defaults: ReplyDefaults) -> Suggested:
    """Settings of a published model whose thinking on one question may take `budget` tokens."""
    return Suggested(
        questions=GENERAL,
        sampling=None,
        temperatures=_temperatures(defaults),
        max_new_tokens=defaults.output_tokens,
        recorded_tokens=2 * budget,
        answer_tokens=1024,
        budget=budget,
        budgets=(0, *(budget // part for part in (16, 8, 4, 2))),
        more_thinking=max(16, budget // 16),
        steps=ALL_STEPS,
        problems=10,
        texts=12,
        experts=None,
        sentence="sentence",
        every="sentence",
        samples=20,
    )


def _on_slow_device(
    config: Qwen3Config, defaults: ReplyDefaults, *, is_streamed: bool
) -> Suggested:
    """Settings of a published model that generates a few tokens a second."""
    active = config.n_active_params
    budget = next(tokens for most, tokens in CPU_BUDGETS if active <= most)
    if is_streamed:
        budget = min(budget, DISK_BUDGET)
    full = _published(budget, defaults)
    longest = max(LEAST_NEW_TOKENS, REPLY_PER_BUDGET * budget)
    where = tr("a model that is read from disk") if is_streamed else tr("a CPU")
    note = tr(
        "for {where}: replies of up to {longest:,} new tokens (published: "
        "{max_new_tokens:,}), thinking up to {budget:,}; pass max_new_tokens= "
        "and budget= for more",
        where=where,
        longest=min(longest, full.max_new_tokens),
        max_new_tokens=full.max_new_tokens,
        budget=budget,
    )
    return replace(
        full,
        max_new_tokens=min(longest, full.max_new_tokens),
        answer_tokens=CPU_ANSWER_TOKENS,
        recorded_tokens=budget + CPU_ANSWER_TOKENS,
        steps=FEW_STEPS,
        problems=2,
        texts=3,
        experts=16,
        every="paragraph",
        samples=4,
        note=note,
    )


def _temperatures(defaults: ReplyDefaults) -> tuple[float, float]:
    direct, thinking = (defaults.sampling(thinking=mode).temperature for mode in (False, True))
    return direct, thinking


def _within(found: Suggested, n_ctx: int) -> Suggested:
    """The settings, with no more tokens than the context has."""
    room = max(1, n_ctx // 2)  # Thinking, answer and prompt share the context.
    budgets = tuple(dict.fromkeys(min(budget, room) for budget in found.budgets))
    return replace(
        found,
        max_new_tokens=min(found.max_new_tokens, n_ctx),
        recorded_tokens=min(found.recorded_tokens, n_ctx),
        answer_tokens=min(found.answer_tokens, max(1, n_ctx // 4)),
        budget=None if found.budget is None else min(found.budget, room),
        budgets=budgets,
    )
