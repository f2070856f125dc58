"""Running arithmetic: a start digit, then a chain of operations of which the last digit counts.

Every operation is a permutation of the ten digits (times is by 3, 7 or 9 only), so no step
erases what came before and nobody can start in the middle: chance is one in ten.
"""

import random

from qwen3lab.tiny.problems import Piece, Problem, Split, split_of

FAMILY = "arithmetic"
MAX_STEPS = 16
FACTORS = (3, 7, 9)
WORDS = {"+": ("add", "plus"), "-": ("subtract", "minus"), "*": ("times",)}
OPENINGS = ("Start at", "Take", "Begin with")
QUESTIONS = ("Last digit?", "What is the last digit?")

Operation = tuple[str, int]


def apply(value: int, operation: Operation) -> int:
    """The last digit after one operation."""
    sign, operand = operation
    if sign == "+":
        return (value + operand) % 10
    return (value - operand) % 10 if sign == "-" else value * operand % 10


def draw(rng: random.Random, steps: int, split: Split) -> Problem:
    """A problem of so many steps from a split, in one of several wordings."""
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"arithmetic of {steps} steps does not exist: expected 1 to {MAX_STEPS}")
    while True:
        start = rng.randrange(10)
        operations = [_operation(rng) for _ in range(steps)]
        key = f"{FAMILY}:{start}" + "".join(f"{sign}{operand}" for sign, operand in operations)
        if split_of(key) == split:
            return build(start, operations, key, rng)


def _operation(rng: random.Random) -> Operation:
    sign = rng.choice("+-*")
    return sign, rng.choice(FACTORS) if sign == "*" else rng.randrange(1, 10)


def build(start: int, operations: list[Operation], key: str, rng: random.Random) -> Problem:
    """The problem with its wording, its thinking and its answer."""
    value, thought = start, []
    for sign, operand in operations:
        result = apply(value, (sign, operand))
        thought += [
            Piece(str(value), "running value"),
            Piece(sign, "operator"),
            Piece(str(operand), "operand"),
            Piece("->", "punctuation"),
            Piece(str(result), "running value"),
            Piece("\n", "punctuation"),
        ]
        value = result
    asked = rng.choice((_symbols, _symbols, _words))(start, operations, rng)
    solved = (Piece(str(value), "result"),)
    return Problem(FAMILY, "en", len(operations), key, asked, tuple(thought[:-1]), solved)


def _symbols(start: int, operations: list[Operation], rng: random.Random) -> tuple[Piece, ...]:
    """As in `3 + 4 * 7 = ?`, with or without blanks."""
    blank = rng.choice((" ", ""))
    pieces = [Piece(str(start), "operand")]
    for sign, operand in operations:
        pieces += [Piece(f"{blank}{sign}{blank}", "operator"), Piece(str(operand), "operand")]
    return (*pieces, Piece(f"{blank}={blank}?", "punctuation"))


def _words(start: int, operations: list[Operation], rng: random.Random) -> tuple[Piece, ...]:
    """As in `Start at 3, add 4, times 7. Last digit?`"""
    pieces = [Piece(rng.choice(OPENINGS), "verb"), Piece(f" {start}", "operand")]
    for sign, operand in operations:
        pieces += [
            Piece(",", "punctuation"),
            Piece(f" {rng.choice(WORDS[sign])}", "operator"),
            Piece(f" {operand}", "operand"),
        ]
    return (*pieces, Piece(".", "punctuation"), Piece(f" {rng.choice(QUESTIONS)}", "question"))
