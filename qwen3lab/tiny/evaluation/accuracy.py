"""How often an embedded model answers right: by steps and by mode."""

import random
from collections.abc import Sequence

from tqdm.auto import tqdm

from qwen3lab.analysis.proportions import Share
from qwen3lab.generation.reply import Chat
from qwen3lab.generation.sampling import Sampling
from qwen3lab.lab import Lab
from qwen3lab.tiny.world.families import FAMILIES
from qwen3lab.tiny.world.problems import Problem

BATCH = 64


def held_out(family: str, *, n: int, steps: int, rng: random.Random) -> list[Problem]:
    """Problems that no embedded model was trained on."""
    return [FAMILIES[family].draw(rng, steps, "held-out") for _ in range(n)]


def accuracy(
    lab: Lab,
    problems: Sequence[Problem],
    bar: tqdm,
    *,
    thinking: bool,
) -> tuple[Share, list[Chat]]:
    """The share of problems that are answered right, greedily, and the replies.

    Args:
        lab: an embedded model.
        problems: to solve.
        bar: is moved on by every problem.
        thinking: think first, or answer at once.
    """
    replies = _replies(lab, problems, bar, thinking=thinking)
    right = [p.grade(reply.answer) for p, reply in zip(problems, replies, strict=True)]
    return Share(sum(right), len(right)), replies


def _replies(lab: Lab, problems: Sequence[Problem], bar: tqdm, *, thinking: bool) -> list[Chat]:
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
            sampling=Sampling.greedy(),
            # Half as much again as the solution takes, and the marks.
            max_new_tokens=room[chosen[-1]] * 3 // 2 + 30,
        )
        replies |= dict(zip(chosen, found, strict=True))
        bar.update(len(chosen))
    return [replies[index] for index in range(len(problems))]
