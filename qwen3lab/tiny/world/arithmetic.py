"""Arithmetic: chains of additions, subtractions and multiplications of whole numbers.

A chain is read from left to right, as by a pocket calculator: multiplication has no precedence.
Every running value lies between 0 and 999, and one of the two factors of a multiplication has one
digit. The thinking text writes each step as an equation; the
answer is the last running value. The plain text of the family is a row of unrelated equations of
one step, a dense supply of single results.

A chain is held out by the hash of its key, also a chain of one step. No training text asks a
held-out question of one step, and no passage states its result. The steps inside of the longer
chains and of programs may be any, because a model cannot learn to carry otherwise: a held-out
question of one step is new as a question, but its equation can occur as a step of a thinking.

Values are mixed in size, as measured on 3,000 training chains of each length. The median of the
running values is 62 in chains of one step, 138 in chains of five and 285 in chains of ten; 4 in 100
are zero. Answers of one step have one, two or three digits in 0.23, 0.42 and 0.34 of the chains. In
chains of one step, 0.34 of the operations are additions, 0.31 multiplications and 0.35
subtractions; in chains of ten, 0.41, 0.20 and 0.39, because large values leave less room to
multiply. About 0.55 of the additions carry once at least; 0.31 of the subtractions borrow in chains
of one step, and 0.53 in chains of ten.
"""

import itertools
import random
import re
from collections.abc import Sequence

from qwen3lab.tiny.world.arithmetic_wordings import Operation, ask
from qwen3lab.tiny.world.first_questions import RESERVED_CHAINS
from qwen3lab.tiny.world.problems import Piece, Problem, Split, split_of

FAMILY = "arithmetic"
MAX_STEPS = 10
MAX_VALUE = 999
ONE_DIGIT_PROBABILITY = 0.4
"""Probability that an operand of an addition or subtraction has one digit."""

LARGE_START_PROBABILITY = 0.1
"""Probability that a chain starts with a number of three digits."""

FACTORS = (0, 1, 1, *(factor for factor in range(2, 10) for _ in range(4)))
"""Factors are drawn from these: 0 and 1 are rare, because they make the value trivial."""

TWO_DIGIT_FACTOR_PROBABILITY = 0.4
"""Probability that a factor after a value of one digit has two digits, as in `3*12`."""

SMALL_DIFFERENCE_PROBABILITY = 0.15
"""Probability that a subtraction from a value below 100 leaves a number of one digit. Without it,
differences such as 60-53 were wrong most often."""

SMALL_DIFFERENCES = (0, *(difference for difference in range(1, 10) for _ in range(3)))
"""Small differences are drawn from these."""

TRIES_TO_SUBTRACT = 8
"""Operands that are tried for a subtraction before another sign is drawn."""

PASSAGE_EQUATIONS = (3, 6)
"""Smallest and largest number of equations in a passage."""

QUIZ_QUESTIONS = (3, 8)
"""Smallest and largest number of questions in a quiz."""

QUIZ_STEPS = (1, 1, 1, 2)
"""Numbers of steps of a quiz's questions; one is chosen at random."""


def apply(value: int, operation: Operation) -> int:
    """The value after one operation."""
    sign, operand = operation
    if sign == "+":
        return value + operand
    return value - operand if sign == "-" else value * operand


def draw(rng: random.Random, steps: int, split: Split) -> Problem:
    """A random problem with this number of steps, from this split."""
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"arithmetic of {steps} steps does not exist: expected 1 to {MAX_STEPS}")
    start, operations = draw_chain(rng, steps, split)
    return build(start, operations, rng)


def draw_chain(rng: random.Random, steps: int, split: Split) -> tuple[int, list[Operation]]:
    """The start and the operations of a random chain from this split."""
    while True:
        start = _draw_start(rng)
        operations = _draw_operations(rng, start, steps)
        key = key_of(start, operations)
        if split_of(key) == split and not (split == "train" and is_reserved(key)):
            return start, operations


def key_of(start: int, operations: Sequence[Operation]) -> str:
    """The key of a chain, independent of its wording, such as `arithmetic:7+2*9-1`."""
    return f"{FAMILY}:{start}" + "".join(f"{sign}{operand}" for sign, operand in operations)


def chain_of(key: str) -> tuple[int, list[Operation]]:
    """The start and the operations of the chain with this key."""
    start, *operations = re.findall(r"[+*-]?\d+", key.partition(":")[2])
    return int(start), [(text[0], int(text[1:])) for text in operations]


def is_reserved(key: str) -> bool:
    """True if the chain is one of the first questions, which no training text may ask."""
    return key.partition(":")[2] in RESERVED_CHAINS


def build(start: int, operations: Sequence[Operation], rng: random.Random) -> Problem:
    """The problem with a random wording, its thinking text, its answer and a passage."""
    language, asked = ask(rng, start, operations)
    values = running_values(start, operations)
    return Problem(
        family=FAMILY,
        language=language,
        steps=len(operations),
        key=key_of(start, operations),
        asked=asked,
        thought=joined(equations(start, operations)),
        solved=(Piece(str(values[-1]), "result"),),
        passage=_passage(rng),
    )


def running_values(start: int, operations: Sequence[Operation]) -> list[int]:
    """The value after each operation."""
    return list(itertools.accumulate(operations, apply, initial=start))[1:]


def equations(start: int, operations: Sequence[Operation]) -> list[list[Piece]]:
    """The pieces of each step of the thinking, such as `9*3=27`; the last one is its result."""
    rows: list[list[Piece]] = []
    before = start
    for (sign, operand), value in zip(operations, running_values(start, operations), strict=True):
        rows.append(
            [
                Piece(str(before), "copied value" if rows else "operand"),
                Piece(sign, "operator"),
                Piece(str(operand), "operand"),
                Piece("=", "punctuation"),
                Piece(str(value), "running value"),
            ]
        )
        before = value
    return rows


def joined(rows: Sequence[Sequence[Piece]]) -> tuple[Piece, ...]:
    """Steps of a thinking with commas between them."""
    comma = Piece(", ", "punctuation")
    return tuple(
        piece for number, row in enumerate(rows) for piece in ((comma, *row) if number else row)
    )


def quiz(rng: random.Random) -> tuple[Piece, ...]:
    """Short questions of the training split in all wordings, each with its answer on its line.

    In such a row an answer is much closer to its question than in a chat, and questions are
    denser, so that answers without thinking are learned sooner.
    """
    pieces: list[Piece] = []
    for _ in range(rng.randint(*QUIZ_QUESTIONS)):
        start, operations = draw_chain(rng, rng.choice(QUIZ_STEPS), "train")
        _, asked = ask(rng, start, operations)
        answer = str(running_values(start, operations)[-1])
        pieces += [*asked, Piece(" ", "punctuation"), Piece(answer, "result", known=True)]
        pieces += [Piece("\n", "punctuation")]
    return tuple(pieces)


def _draw_start(rng: random.Random) -> int:
    return rng.randint(100, 999) if rng.random() < LARGE_START_PROBABILITY else _summand(rng)


def _draw_operations(rng: random.Random, start: int, steps: int) -> list[Operation]:
    """Random operations whose running values stay in range.

    No ordered pair of neighbours occurs twice, so two neighbours identify the position in the
    chain.
    """
    operations: list[Operation] = []
    value = start
    while len(operations) < steps:
        operation = _draw_operation(rng, value)
        pair = [*operations[-1:], operation]
        repeats = len(pair) == 2 and pair in map(list, itertools.pairwise(operations))
        if not repeats:
            operations.append(operation)
            value = apply(value, operation)
    return operations


def _draw_operation(rng: random.Random, value: int) -> Operation:
    """A random operation on this value whose result stays in range."""
    while True:
        sign = rng.choice("+-*")
        # Another operand is tried before another sign, or subtractions would be rare.
        for _ in range(TRIES_TO_SUBTRACT if sign == "-" and value else 1):
            operation = sign, _draw_operand(rng, sign, value)
            if 0 <= apply(value, operation) <= MAX_VALUE:
                return operation


def _draw_operand(rng: random.Random, sign: str, value: int) -> int:
    if sign == "*":
        return _factor(rng, value)
    if sign == "-" and value < 100 and rng.random() < SMALL_DIFFERENCE_PROBABILITY:
        return max(0, value - rng.choice(SMALL_DIFFERENCES))
    return _summand(rng)


def _factor(rng: random.Random, value: int) -> int:
    if value < 10 and rng.random() < TWO_DIGIT_FACTOR_PROBABILITY:
        return rng.randint(10, 99)
    return rng.choice(FACTORS)


def _summand(rng: random.Random) -> int:
    return rng.randint(0, 9) if rng.random() < ONE_DIGIT_PROBABILITY else rng.randint(10, 99)


def _passage(rng: random.Random) -> tuple[Piece, ...]:
    """Equations of one step from the training split, such as `12+30=42, 7*8=56.` and a newline."""
    pieces: list[Piece] = []
    for _ in range(rng.randint(*PASSAGE_EQUATIONS)):
        *left, result = equations(*draw_chain(rng, 1, "train"))[0]
        pieces += [Piece(", ", "punctuation")] if pieces else []
        pieces += [*left, Piece(result.text, result.role, known=True)]
    return (*pieces, Piece(".\n", "punctuation"))
