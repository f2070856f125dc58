"""Thinkings that make a mistake and notice it, or that check a step that was right.

"Wait" stands at the beginning of a line. There the lab inserts it, too, when it extends a
thinking: in place of `</think>`, after the line break that ends the last step. So the tokens of
both are the same. After "Wait" the step is written once more, and it is right.
"""

import random
from dataclasses import replace

from qwen3lab.tiny.world import arithmetic
from qwen3lab.tiny.world.hints import wrong_value
from qwen3lab.tiny.world.problems import Piece, Problem

WAIT = "Wait"
CHECK_PROBABILITY = 0.3
"""Probability that the step before "Wait" is right."""

CHECK_AT_END_PROBABILITY = 0.6
"""Probability that a right step that is checked is the last one."""


def with_wrong_turn(rng: random.Random, problem: Problem) -> Problem:
    """The problem with a thinking in which one step is wrong at first, or is checked."""
    is_check = rng.random() < CHECK_PROBABILITY
    at_end = is_check and rng.random() < CHECK_AT_END_PROBABILITY
    step = problem.steps - 1 if at_end else rng.randrange(problem.steps)
    rows = arithmetic.equations(*arithmetic.chain_of(problem.key))
    *left, result = rows[step]
    first = rows[step] if is_check else [*left, _wrong(rng, result)]
    turn = [*first, *_wait(is_check=is_check), *left, Piece(result.text, "check")]
    thought = arithmetic.joined([*rows[:step], turn, *rows[step + 1 :]])
    return replace(problem, thought=thought)


def with_check(problem: Problem) -> Problem:
    """The problem with a thinking that repeats its last line after "Wait"."""
    lines: list[list[Piece]] = [[]]
    for piece in problem.thought:
        lines = [*lines, []] if piece.text.endswith("\n") else [*lines[:-1], [*lines[-1], piece]]
    repeated = [Piece(piece.text, "check") for piece in lines[-1]]
    return replace(problem, thought=(*problem.thought, *_wait(is_check=True), *repeated))


def _wrong(rng: random.Random, result: Piece) -> Piece:
    return Piece(wrong_value(rng, result.text), "wrong value", surprise=True)


def _wait(*, is_check: bool) -> tuple[Piece, ...]:
    """The line break, "Wait" and comma; after a right step nothing announces them."""
    return (
        Piece("\n", "punctuation", surprise=is_check),
        Piece(WAIT, "wait", surprise=is_check),
        Piece(", ", "punctuation"),
    )
