"""The replies of an embedded model to problems of the task families, and their accuracy."""

import random
from collections.abc import Sequence
from typing import Any

from tqdm.auto import tqdm

from qwen3lab.analysis.proportions import Share
from qwen3lab.generation.reply import Chat, all_finished
from qwen3lab.generation.sampling import Sampling
from qwen3lab.generation.thinking_control import Extension
from qwen3lab.lab import Lab
from qwen3lab.tiny.world.families import FAMILIES
from qwen3lab.tiny.world.problems import Problem

PROBLEMS_PER_BATCH = 64


def held_out(family: str, *, n: int, steps: int, rng: random.Random) -> list[Problem]:
    """Random held-out problems of a family."""
    return [FAMILIES[family].draw(rng, steps, "held-out") for _ in range(n)]


def accuracy(
    lab: Lab,
    problems: Sequence[Problem],
    bar: tqdm,
    *,
    thinking: bool,
) -> tuple[Share, list[Chat]]:
    """The share of problems with a right answer under greedy decoding, and the replies.

    Args:
        lab: with an embedded model.
        problems: the problems.
        bar: advances by one for each problem.
        thinking: answer after thinking, or directly.
    """
    found = replies(lab, problems, bar, thinking=thinking)
    return share_right(problems, found), found


def share_right(problems: Sequence[Problem], found: Sequence[Chat]) -> Share:
    """The share of problems that these replies answer."""
    right = [p.grade(reply.answer) for p, reply in zip(problems, found, strict=True)]
    return Share(sum(right), len(right))


def replies(
    lab: Lab,
    problems: Sequence[Problem],
    bar: tqdm,
    *,
    thinking: bool,
    sampling: Sampling | None = None,
    seed: int = 0,
    extend: Extension | None = None,
) -> list[Chat]:
    """The replies in the order of the problems.

    Problems with solutions of similar length share a batch, which saves decoding steps.

    Args:
        lab: with an embedded model.
        problems: the problems.
        bar: advances by one for each problem.
        thinking: answer after thinking, or directly.
        sampling: None for greedy decoding.
        seed: of the sampling; each problem has a seed of its own.
        extend: refuses `</think>`.
    """
    lengths = [
        len(lab.tokenizer.encode(f"{p.thinking if thinking else ''}{p.answer}")) for p in problems
    ]
    order = sorted(range(len(problems)), key=lambda index: lengths[index])
    options: dict[str, Any] = {} if extend is None else {"extend": extend}
    found: dict[int, Chat] = {}
    for start in range(0, len(order), PROBLEMS_PER_BATCH):
        batch = order[start : start + PROBLEMS_PER_BATCH]
        batch_replies = lab.chat_batch(
            [problems[index].question for index in batch],
            thinking=thinking,
            sampling=sampling or Sampling.greedy(),
            seed=seed + start,
            # 1.5 times the length of the solution, plus the tokens around thinking and answer.
            max_new_tokens=lengths[batch[-1]] * 3 // 2 + 30,
            **options,
        )
        found |= dict(zip(batch, all_finished(batch_replies), strict=True))
        bar.update(len(batch))
    return [found[index] for index in range(len(problems))]
