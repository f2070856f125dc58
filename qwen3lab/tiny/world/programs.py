"""Small programs in a subset of Python: assignments, function calls, and a final print.

Values are modulo 10, as in running arithmetic. The thinking text has one line per assignment: the
source variable with its value, the operation with its result, and the new variable with its value.
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
    """`target = source sign operand`, or the equivalent `target = function(source)`."""

    target: str
    source: str
    sign: str
    operand: int
    function: str = ""


def draw(rng: random.Random, steps: int, split: Split) -> Problem:
    """A random program with `steps` assignments after the first, from this split."""
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
    """The problem: the program, its thinking text, and the value that it prints."""
    values = {first: start}
    asked: list[Piece] = []
    for name, (sign, operand) in functions.items():
        asked += _definition(name, sign, operand)
    asked += [
        Piece(first, "identifier"),
        Piece(" =", "operator"),
        Piece(f" {start}", "operand"),
        Piece("\n", "punctuation"),
    ]
    thought = [*_variable_value(first, start), Piece("\n", "punctuation")]
    for line in lines:
        before = values[line.source]
        values[line.target] = apply(before, (line.sign, line.operand))
        asked += _assignment_pieces(line)
        thought += _thinking_line(line, before, values[line.target])
    asked += [
        Piece("print", "keyword"),
        Piece("(", "punctuation"),
        Piece(shown, "identifier"),
        Piece(")", "punctuation"),
    ]
    thought += _variable_value(shown, values[shown])
    solved = (Piece(CIRCLED[values[shown]], "result"),)
    return Problem(FAMILY, "en", len(lines), key, tuple(asked), tuple(thought), solved)


def _definition(name: str, sign: str, operand: int) -> list[Piece]:
    """A definition such as `def f(x): return x + 3`."""
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


def _assignment_pieces(line: Assignment) -> list[Piece]:
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


def _thinking_line(line: Assignment, before: int, after: int) -> list[Piece]:
    """The thinking line of an assignment, such as `a⑤+2⑦ b⑦` for `b = a + 2`."""
    return [
        *_variable_value(line.source, before),
        Piece(line.sign, "operator"),
        Piece(str(line.operand), "operand"),
        Piece(CIRCLED[after], "running value"),
        *_variable_value(f" {line.target}", after),
        Piece("\n", "punctuation"),
    ]


def _variable_value(name: str, value: int) -> list[Piece]:
    return [Piece(name, "identifier"), Piece(CIRCLED[value], "running value")]
