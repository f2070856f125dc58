"""The table of task families, and the function that draws problems from them."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from qwen3lab.tiny.world import arithmetic, lists, outside, programs, stories, swaps
from qwen3lab.tiny.world.problems import Problem, Split
from qwen3lab.translation import tr

Draw = Callable[[random.Random, int, Split], Problem]


@dataclass(frozen=True)
class Family:
    """A task family.

    Attributes:
        name: the `family` of its problems.
        draw: returns a random problem with a given number of steps, from a given split.
        least: number of steps of the shortest problems.
        most: number of steps of the longest problems.
        thinks: True if its problems have a thinking text.
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
        Family(outside.FAMILY, outside.draw, 1, outside.MAX_STEPS, thinks=True),
    )
}


def problems(
    family: str, *, n: int, steps: int, seed: int = 0, split: str = "held-out"
) -> list[Problem]:
    """Random problems of a task family; the same seed gives the same problems.

    Args:
        family: "arithmetic", "swaps", "code", "stories", "lists" or "outside".
        n: number of problems. There are few different short problems, so they occur repeatedly.
        steps: number of steps of each problem.
        seed: of the random problems.
        split: "held-out" (no embedded model was trained on these) or "train".

    Raises:
        ValueError: an unknown family or split, or a number of steps that the family does not
            have.

    Example:
        >>> import qwen3lab
        >>> problem = qwen3lab.tiny.problems("arithmetic", n=1, steps=3, seed=6)[0]
        >>> problem.question, problem.answer
        ('63 × 9 - 94 - 58 = ?', '415')
    """
    if family not in FAMILIES:
        raise ValueError(
            tr(
                "there is no family {family!r}: choose from {families}",
                family=family,
                families=", ".join(FAMILIES),
            )
        )
    splits: dict[str, Split] = {"held-out": "held-out", "train": "train"}
    if split not in splits:
        raise ValueError(
            tr(
                "there is no split {split!r}: choose from {splits}",
                split=split,
                splits=", ".join(splits),
            )
        )
    rng = random.Random(seed)
    return [FAMILIES[family].draw(rng, steps, splits[split]) for _ in range(n)]
