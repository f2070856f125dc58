"""Thinkings that make a mistake and notice it, or that check a step that was right.

"Wait" stands at the beginning of a line. There the lab inserts it, too, when it extends a
thinking: in place of `</think>`, after the line break that ends the last step. So the tokens of
both are the same. After "Wait" the step is written once more, and it is right.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from qwen3lab.tiny.world import arithmetic
from qwen3lab.tiny.world.hints import wrong_value
from qwen3lab.tiny.world.problems import Piece, Problem

WAIT = "Wait"
CHECK_PROBABILITY = 0.3
"""Probability that the step before "Wait" is right."""

N_LEFT = 4
"""Number of pieces of an equation before its result, as in `12+30=`."""

CHECK_AT_END_PROBABILITY = 0.6
"""Probability that a right step that is checked is the last one."""


WRONG_EQUATION_PROBABILITY = 0.2
"""Probability that an equation of a passage is wrong at first. In thinkings alone, wrong steps are
so rare that "Wait" did not follow them: 0 to 10 in 100, after 31 million tokens of training."""


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


def with_wrong_equations(rng: random.Random, passage: Sequence[Piece]) -> tuple[Piece, ...]:
    """A passage of arithmetic in which some equations are wrong at first, and are corrected.

    An example is `12+30=43`, line break, `Wait, 12+30=42, 7*8=56.`
    """
    pieces: list[Piece] = []
    for place, piece in enumerate(passage):
        if piece.known and rng.random() < WRONG_EQUATION_PROBABILITY:
            again = [*_wait(is_check=False), *passage[place - N_LEFT : place]]
            pieces.append(_wrong(rng, piece))
            pieces += [replace(other, known=True) for other in again]
        pieces.append(piece)
    return tuple(pieces)


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
