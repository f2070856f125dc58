"""How often an embedded model answers right: by steps, by mode, by thinking budget."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binomtest
from tqdm.auto import tqdm

from qwen3lab.generate import Sampling
from qwen3lab.lab import Lab
from qwen3lab.reply import Chat
from qwen3lab.tiny.families import FAMILIES
from qwen3lab.tiny.problems import Problem

BATCH = 64


@dataclass(frozen=True)
class Share:
    """How many of how many, with the 95% Wilson interval of the share."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        """The share itself."""
        return self.hits / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end (Wilson 1927)."""
        found = binomtest(self.hits, self.total).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} ({low:.3f} to {high:.3f})"


def held_out(family: str, *, n: int, steps: int, rng: random.Random) -> list[Problem]:
    """Problems that no embedded model was trained on."""
    return [FAMILIES[family].draw(rng, steps, "held-out") for _ in range(n)]


def accuracy(
    lab: Lab,
    problems: Sequence[Problem],
    bar: tqdm,
    *,
    thinking: bool,
    budget: int | None = None,
) -> tuple[Share, list[Chat]]:
    """The share of problems that are answered right, greedily, and the replies.

    Args:
        lab: an embedded model.
        problems: to solve.
        bar: is moved on by every problem.
        thinking: think first, or answer at once.
        budget: thinking tokens at most; None for no limit.
    """
    replies = _replies(lab, problems, bar, thinking=thinking, budget=budget)
    right = [p.grade(reply.answer) for p, reply in zip(problems, replies, strict=True)]
    return Share(sum(right), len(right)), replies


def by_budget(
    lab: Lab, problems: Sequence[Problem], budgets: Sequence[int], bar: tqdm | None = None
) -> dict[int, Share]:
    """The share of problems answered right within each thinking budget.

    Args:
        lab: an embedded model.
        problems: to solve, once for each budget.
        budgets: thinking tokens allowed; then the early-stop sentence is inserted.
        bar: is moved on by every problem; one of its own if None.
    """
    if bar is None:
        with tqdm(total=len(problems) * len(budgets), unit="problem") as own:
            return by_budget(lab, problems, budgets, own)
    return {
        budget: accuracy(lab, problems, bar, thinking=True, budget=budget)[0] for budget in budgets
    }


def _replies(
    lab: Lab, problems: Sequence[Problem], bar: tqdm, *, thinking: bool, budget: int | None
) -> list[Chat]:
    """Replies in the problems' order; those of like length run together, which wastes less."""
    room = [
        len(lab.tokenizer.encode(f"{p.thinking if thinking else ''}{p.answer}")) for p in problems
    ]
    order = sorted(range(len(problems)), key=lambda index: room[index])
    replies: dict[int, Chat] = {}
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        found = lab.chat_batch(
            [problems[index].question for index in chosen],
            thinking=thinking,
            budget=budget,
            sampling=Sampling.greedy(),
            # Half as much again as the solution takes, and the early-stop sentence.
            max_new_tokens=room[chosen[-1]] * 3 // 2 + 30,
        )
        replies |= dict(zip(chosen, found, strict=True))
        bar.update(len(chosen))
    return [replies[index] for index in range(len(problems))]
