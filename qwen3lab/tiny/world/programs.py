"""A small Python-like language: assignments, calls, and a print at the end.

Only the last digit of a number is kept, as in running arithmetic. The thinking follows the
program line by line: the value that a line starts from, the step, and what the new variable is.
"""

import random
from dataclasses import dataclass

from qwen3lab.tiny.world.arithmetic import CIRCLED, OPERATIONS, Operation, apply
from qwen3lab.tiny.world.problems import Piece, Problem, Split, split_of

FAMILY = "code"
MAX_STEPS = 8
VARIABLES = "abcdehkmn"
FUNCTIONS = "fg"


@dataclass(frozen=True)
class Assignment:
    """`target = source sign operand`, or `target = function(source)` that means the same."""

    target: str
    source: str
    sign: str
    operand: int
    function: str = ""


def draw(rng: random.Random, steps: int, split: Split) -> Problem:
    """A program of so many assignments after the first, from a split."""
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"code of {steps} steps does not exist: expected 1 to {MAX_STEPS}")
    while True:
        names = rng.sample(VARIABLES, steps + 1)
        functions = {name: rng.choice(OPERATIONS) for name in FUNCTIONS[: rng.choice((0, 1, 1, 2))]}
        start = rng.randrange(10)
        lines = [_assignment(rng, names, place, functions) for place in range(1, steps + 1)]
        shown = names[-1] if rng.random() < 0.8 else rng.choice(names)
        key = f"{FAMILY}:{names[0]}={start}:{functions}:{lines}:{shown}"
        if split_of(key) == split:
            return build(names[0], start, functions, lines, shown, key)


def _assignment(
    rng: random.Random, names: list[str], place: int, functions: dict[str, Operation]
) -> Assignment:
    source = names[place - 1] if rng.random() < 0.7 else rng.choice(names[:place])
    if functions and rng.random() < 0.4:
        called = rng.choice(list(functions))
        return Assignment(names[place], source, *functions[called], called)
    return Assignment(names[place], source, *rng.choice(OPERATIONS))


def build(
    first: str,
    start: int,
    functions: dict[str, Operation],
    lines: list[Assignment],
    shown: str,
    key: str,
) -> Problem:
    """The program with its thinking and what it prints."""
    values = {first: start}
    asked: list[Piece] = []
    for name, (sign, operand) in functions.items():
        asked += _define(name, sign, operand)
    asked += [
        Piece(first, "identifier"),
        Piece(" =", "operator"),
        Piece(f" {start}", "operand"),
        Piece("\n", "punctuation"),
    ]
    thought = [*_is(first, start), Piece("\n", "punctuation")]
    for line in lines:
        before = values[line.source]
        values[line.target] = apply(before, (line.sign, line.operand))
        asked += _assign(line)
        thought += _think(line, before, values[line.target])
    asked += [
        Piece("print", "keyword"),
        Piece("(", "punctuation"),
        Piece(shown, "identifier"),
        Piece(")", "punctuation"),
    ]
    thought += _is(shown, values[shown])
    solved = (Piece(CIRCLED[values[shown]], "result"),)
    return Problem(FAMILY, "en", len(lines), key, tuple(asked), tuple(thought), solved)


def _define(name: str, sign: str, operand: int) -> list[Piece]:
    """As in `def f(x): return x + 4`."""
    return [
        Piece("def", "keyword"),
        Piece(f" {name}", "identifier"),
        Piece("(x):", "punctuation"),
        Piece(" return", "keyword"),
        Piece(" x", "identifier"),
        Piece(f" {sign}", "operator"),
        Piece(f" {operand}", "operand"),
        Piece("\n", "punctuation"),
    ]


def _assign(line: Assignment) -> list[Piece]:
    pieces = [Piece(line.target, "identifier"), Piece(" =", "operator")]
    if line.function:
        pieces += [
            Piece(f" {line.function}", "identifier"),
            Piece("(", "punctuation"),
            Piece(line.source, "identifier"),
            Piece(")", "punctuation"),
        ]
    else:
        pieces += [
            Piece(f" {line.source}", "identifier"),
            Piece(f" {line.sign}", "operator"),
            Piece(f" {line.operand}", "operand"),
        ]
    return [*pieces, Piece("\n", "punctuation")]


def _think(line: Assignment, before: int, after: int) -> list[Piece]:
    """As in `a⑤+2⑦ b⑦` for `b = a + 2`."""
    return [
        *_is(line.source, before),
        Piece(line.sign, "operator"),
        Piece(str(line.operand), "operand"),
        Piece(CIRCLED[after], "running value"),
        *_is(f" {line.target}", after),
        Piece("\n", "punctuation"),
    ]


def _is(name: str, value: int) -> list[Piece]:
    return [Piece(name, "identifier"), Piece(CIRCLED[value], "running value")]
