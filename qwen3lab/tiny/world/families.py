"""The task families: how each draws its problems, and of how many steps."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from qwen3lab.tiny.world import arithmetic, lists, programs, stories, swaps
from qwen3lab.tiny.world.problems import Problem, Split

Draw = Callable[[random.Random, int, Split], Problem]


@dataclass(frozen=True)
class Family:
    """A task family.

    Attributes:
        name: as in its problems.
        draw: a problem of so many steps from a split.
        least: steps of the shortest problems.
        most: steps of the longest.
        thinks: True if its problems have a thinking.
    """

    name: str
    draw: Draw
    least: int
    most: int
    thinks: bool


FAMILIES = {
    family.name: family
    for family in (
        Family(arithmetic.FAMILY, arithmetic.draw, 1, arithmetic.MAX_STEPS, thinks=True),
        Family(swaps.FAMILY, swaps.draw, 1, swaps.MAX_STEPS, thinks=True),
        Family(programs.FAMILY, programs.draw, 1, programs.MAX_STEPS, thinks=True),
        Family(stories.FAMILY, stories.draw, 1, stories.MAX_STEPS, thinks=False),
        Family(lists.FAMILY, lists.draw, lists.MIN_STEPS, lists.MAX_STEPS, thinks=False),
    )
}


def problems(
    family: str, *, n: int, steps: int, seed: int = 0, split: str = "held-out"
) -> list[Problem]:
    """Problems of a task family, with answers, thinking and labels; the same seed, the same ones.

    Args:
        family: "arithmetic", "swaps", "code", "stories" or "lists".
        n: how many; of short ones there are few, so that they repeat.
        steps: of each problem.
        seed: of the draw.
        split: "held-out", which no embedded model was trained on, or "train".

    Raises:
        ValueError: an unknown family or split, or a number of steps that it does not have.

    Example:
        >>> import qwen3lab
        >>> problem = qwen3lab.tiny.problems("arithmetic", n=1, steps=3)[0]
        >>> problem.question, problem.answer
        ('8-2+1+1=?', '⑧')
    """
    if family not in FAMILIES:
        raise ValueError(f"there is no family {family!r}: choose from {', '.join(FAMILIES)}")
    splits: dict[str, Split] = {"held-out": "held-out", "train": "train"}
    if split not in splits:
        raise ValueError(f"there is no split {split!r}: choose from {', '.join(splits)}")
    rng = random.Random(seed)
    return [FAMILIES[family].draw(rng, steps, splits[split]) for _ in range(n)]
