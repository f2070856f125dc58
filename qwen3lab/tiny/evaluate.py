"""What an embedded model can do, measured on problems that it never saw."""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import torch
from tqdm.auto import tqdm

from qwen3lab.generate import Sampling
from qwen3lab.lab import Lab
from qwen3lab.reply import Chat
from qwen3lab.tiny import arithmetic
from qwen3lab.tiny.problems import Problem

BUDGETS = (0, 6, 12, 18, 24, 36, 48, 72)
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
        """Lower and upper end (Wilson 1927, as in scipy's `binomtest(...).proportion_ci`)."""
        z, n, p = 1.959963984540054, self.total, self.value
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} ({low:.3f} to {high:.3f})"


@dataclass(frozen=True)
class Evaluation:
    """The measured behaviour of one model.

    Attributes:
        name: of the model.
        thinking: accuracy by number of steps, thinking without a limit.
        at_once: accuracy by number of steps, without thinking.
        by_budget: accuracy over problems of mixed length, by thinking tokens allowed.
        mixed_at_once: accuracy over the same problems, without thinking.
        stopped: share of the thinkings without a limit that ended by themselves.
        least_load: load of the least used expert over uniform load, by layer.
        most_load: load of the most used expert over uniform load, by layer.
        seed: of the problems.
    """

    name: str
    thinking: dict[int, Share]
    at_once: dict[int, Share]
    by_budget: dict[int, Share]
    mixed_at_once: Share
    stopped: Share
    least_load: list[float]
    most_load: list[float]
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Numbers only, for a JSON file."""
        return asdict(self)


def evaluate(
    lab: Lab, *, n: int = 100, n_mixed: int = 500, seed: int = 1, progress: bool = True
) -> Evaluation:
    """Measure a model on held-out arithmetic, greedily.

    Args:
        lab: an embedded model.
        n: problems for each number of steps.
        n_mixed: problems of 1 to 12 steps for the curve over budgets.
        seed: of the problems.
        progress: show a bar.
    """
    rng = random.Random(seed)
    lengths = range(1, 13)
    by_length = {s: [arithmetic.draw(rng, s, "held-out") for _ in range(n)] for s in lengths}
    mixed = [arithmetic.draw(rng, rng.choice(lengths), "held-out") for _ in range(n_mixed)]
    total = 2 * n * len(lengths) + n_mixed * (len(BUDGETS) + 1)
    with tqdm(total=total, unit="problem", disable=not progress) as bar:
        thought = {s: _replies(lab, by_length[s], bar, thinking=True) for s in lengths}
        at_once = {s: _replies(lab, by_length[s], bar, thinking=False) for s in lengths}
        cut = {b: _replies(lab, mixed, bar, thinking=True, budget=b) for b in BUDGETS}
        mixed_at_once = _replies(lab, mixed, bar, thinking=False)
    stops = [reply.stop for replies in thought.values() for reply in replies]
    least, most = _loads(lab, mixed[:100])
    return Evaluation(
        name=lab.name,
        thinking={s: _graded(by_length[s], thought[s]) for s in lengths},
        at_once={s: _graded(by_length[s], at_once[s]) for s in lengths},
        by_budget={b: _graded(mixed, cut[b]) for b in BUDGETS},
        mixed_at_once=_graded(mixed, mixed_at_once),
        stopped=Share(stops.count("natural"), len(stops)),
        least_load=least,
        most_load=most,
        seed=seed,
    )


def _replies(
    lab: Lab, problems: Sequence[Problem], bar: tqdm, *, thinking: bool, budget: int | None = None
) -> list[Chat]:
    """Replies in the problems' order; those of like length run together, which wastes less."""
    order = sorted(range(len(problems)), key=lambda index: problems[index].steps)
    replies: dict[int, Chat] = {}
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        longest = max(problems[index].steps for index in chosen)
        found = lab.chat_batch(
            [problems[index].question for index in chosen],
            thinking=thinking,
            budget=budget,
            sampling=Sampling.greedy(),
            max_new_tokens=10 * longest + 40,
        )
        replies |= dict(zip(chosen, found, strict=True))
        bar.update(len(chosen))
    return [replies[index] for index in range(len(problems))]


def _graded(problems: Sequence[Problem], replies: Sequence[Chat]) -> Share:
    right = [p.grade(reply.answer) for p, reply in zip(problems, replies, strict=True)]
    return Share(sum(right), len(right))


def _loads(lab: Lab, problems: Sequence[Problem]) -> tuple[list[float], list[float]]:
    """Least and greatest load over uniform, layer by layer, on solved problems."""
    if not lab.config.is_moe:
        return [], []
    counts = torch.zeros(len(lab.config.moe_layers), lab.config.n_experts)
    for problem in problems:
        solved = f"<think>\n{problem.thinking}\n</think>\n\n{problem.answer}"
        talk = [
            {"role": "user", "content": problem.question},
            {"role": "assistant", "content": solved},
        ]
        for layer, experts in enumerate(lab.record(talk).routing.experts):
            counts[layer] += torch.bincount(experts.flatten(), minlength=lab.config.n_experts)
    relative = counts / counts.mean(dim=1, keepdim=True)
    return relative.amin(dim=1).tolist(), relative.amax(dim=1).tolist()
