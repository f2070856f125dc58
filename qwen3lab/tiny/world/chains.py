"""Arithmetic problems for any model: in the embedded models' notation, or in English."""

from collections.abc import Sequence
from typing import Any

from qwen3lab.checkpoints.embedded import edition_of, is_embedded
from qwen3lab.thinking import Exercise, Problem
from qwen3lab.tiny.world import arithmetic
from qwen3lab.tiny.world.families import problems
from qwen3lab.tiny.world.tokenizer import EDITION

SPELLED_OUT_QUESTION = "Start with {start}. {steps}. What is the result?"
"""The question for a model that was not trained on the embedded models' notation."""

OPERATION_VERBS = {"+": "add", "-": "subtract", "*": "multiply by"}


def chains(
    tokenizer: Any, *, n: int, steps: int | Sequence[int], seed: int = 0
) -> Sequence[Problem]:
    """Held-out arithmetic problems, worded for the model that has this tokenizer.

    An embedded model gets the problems in the family's notation. Any other model gets the same
    problems in English; the grader compares the last number of the answer.

    Args:
        tokenizer: of the model.
        n: problems of each length.
        steps: number of steps, or several numbers.
        seed: of the random problems.

    Raises:
        ValueError: the family has no problems with this number of steps, or the model is of an
            earlier edition, which knows other arithmetic.
    """
    _check_edition(tokenizer)
    lengths = [steps] if isinstance(steps, int) else list(steps)
    in_notation = [
        problem
        for length in lengths
        for problem in problems(arithmetic.FAMILY, n=n, steps=length, seed=seed)
    ]
    if is_embedded(tokenizer):
        return in_notation
    return [_spelled_out(problem.key) for problem in in_notation]


def _check_edition(tokenizer: Any) -> None:
    if is_embedded(tokenizer) and edition_of(tokenizer) != EDITION:
        raise ValueError(
            f"the model is of edition {edition_of(tokenizer)} of the embedded world, which knows "
            f"only the last digits of sums, but the problems are of edition {EDITION}: load the "
            "model without revision="
        )


def _spelled_out(key: str) -> Exercise:
    """The English problem for a key such as `arithmetic:7+2*3`."""
    start, operations = arithmetic.chain_of(key)
    value = arithmetic.running_values(start, operations)[-1]
    steps = ", ".join(f"{OPERATION_VERBS[sign]} {operand}" for sign, operand in operations)
    question = SPELLED_OUT_QUESTION.format(start=start, steps=f"{steps[0].upper()}{steps[1:]}")
    return Exercise(question, str(value), str(len(operations)), "last number")
