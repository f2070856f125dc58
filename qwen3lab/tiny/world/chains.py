"""Running arithmetic for any model: in the embedded models' words, or spelled out."""

from collections.abc import Sequence
from typing import Any

from qwen3lab.thinking import Exercise, Problem
from qwen3lab.tiny.world import arithmetic
from qwen3lab.tiny.world.families import problems
from qwen3lab.tiny.world.tokenizer import N_VOCAB

ASK = (
    "Start with {start} and go through these steps one after the other: {steps}. After every "
    "step keep only the last digit (below zero, add 10). Which digit is left in the end?"
)
"""The same problem for a model that does not know the embedded models' notation."""

NAMES = {"+": "add", "-": "subtract", "*": "multiply by"}


def is_embedded(tokenizer: Any) -> bool:
    """True for the tokenizer of the models that ship with the package."""
    return len(tokenizer) == N_VOCAB


def chains(
    tokenizer: Any, *, n: int, steps: int | Sequence[int], seed: int = 0
) -> Sequence[Problem]:
    """Held-out problems of running arithmetic, as a model with this tokenizer is to be asked.

    An embedded model gets the family's own problems, any other model the same ones in plain
    words, graded by the last number of the answer.

    Args:
        tokenizer: of the model.
        n: problems of each length.
        steps: their length, or several.
        seed: of the draw.

    Raises:
        ValueError: a number of steps that the family does not have.
    """
    lengths = [steps] if isinstance(steps, int) else list(steps)
    drawn = [
        problem
        for length in lengths
        for problem in problems(arithmetic.FAMILY, n=n, steps=length, seed=seed)
    ]
    return drawn if is_embedded(tokenizer) else [_spelled_out(problem.key) for problem in drawn]


def _spelled_out(key: str) -> Exercise:
    """The problem of a key such as `arithmetic:7+2*3`."""
    chain = key.partition(":")[2]
    start, operations = int(chain[0]), list(zip(chain[1::2], map(int, chain[2::2]), strict=True))
    value = start
    for operation in operations:
        value = arithmetic.apply(value, operation)
    said = ", ".join(f"{NAMES[sign]} {operand}" for sign, operand in operations)
    question = ASK.format(start=start, steps=said)
    return Exercise(question, str(value), str(len(operations)), "last number")
