"""Small programs in a subset of Python: assignments, function calls, and a final print.

Every value lies between 0 and 99. The thinking text repeats each line of the program without its
spaces, and continues it with the numbers and the result: `b=a+2=5+2=7`.
"""

import random
from dataclasses import dataclass

from qwen3lab.tiny.world import arithmetic
from qwen3lab.tiny.world.arithmetic import apply
from qwen3lab.tiny.world.arithmetic_wordings import Operation
from qwen3lab.tiny.world.problems import Piece, Problem, Split, split_of

FAMILY = "code"
MAX_STEPS = 8
MAX_START = 20
MAX_VALUE = 99
VARIABLES = "abcdehkmn"
FUNCTIONS = "fg"
OPERATIONS: tuple[Operation, ...] = (
    *((sign, operand) for sign in "+-" for operand in range(1, 10)),
    *(("*", factor) for factor in (2, 3) for _ in range(4)),
)
"""The operations; multiplications occur repeatedly, because they are few and often too large."""


@dataclass(frozen=True)
class Assignment:
    """`target = source sign operand`, or the equivalent `target = function(source)`."""

    target: str
    source: str
    sign: str
    operand: int
    function: str = ""


@dataclass(frozen=True)
class Program:
    """A program.

    Attributes:
        first: the variable of the first line.
        start: its value.
        functions: the operation of each function.
        lines: the assignments after the first line.
        shown: the variable that is printed.
    """

    first: str
    start: int
    functions: dict[str, Operation]
    lines: list[Assignment]
    shown: str

    @property
    def key(self) -> str:
        """Identifies the program."""
        return f"{FAMILY}:{self.first}={self.start}:{self.functions}:{self.lines}:{self.shown}"

    @property
    def values(self) -> dict[str, int]:
        """The value of each variable."""
        values = {self.first: self.start}
        for line in self.lines:
            values[line.target] = apply(values[line.source], (line.sign, line.operand))
        return values


def draw(rng: random.Random, steps: int, split: Split) -> Problem:
    """A random program with `steps` assignments after the first, from this split."""
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"code of {steps} steps does not exist: expected 1 to {MAX_STEPS}")
    while True:
        program = _draw_program(rng, steps)
        in_range = all(0 <= value <= MAX_VALUE for value in program.values.values())
        if in_range and split_of(program.key) == split and not _states_held_out(program, split):
            return build(program)


def _draw_program(rng: random.Random, steps: int) -> Program:
    names = rng.sample(VARIABLES, steps + 1)
    functions = {name: rng.choice(OPERATIONS) for name in FUNCTIONS[: rng.choice((0, 1, 1, 2))]}
    start = rng.randint(0, MAX_START)
    values = {names[0]: start}
    lines: list[Assignment] = []
    for target in names[1:]:
        for _ in range(20):  # Most lines are in range after a few tries; else the program is not.
            line = _assignment(rng, list(values), target, functions)
            values[target] = apply(values[line.source], (line.sign, line.operand))
            if 0 <= values[target] <= MAX_VALUE:
                break
            del values[target]
        else:
            return _draw_program(rng, steps)
        lines.append(line)
    shown = names[-1] if rng.random() < 0.8 else rng.choice(names)
    return Program(names[0], start, functions, lines, shown)


def _states_held_out(program: Program, split: Split) -> bool:
    """True if the one step of a program for training is a held-out problem of arithmetic."""
    if split == "held-out" or len(program.lines) > 1:
        return False
    line = program.lines[0]
    key = arithmetic.key_of(program.start, [(line.sign, line.operand)])
    return split_of(key) == "held-out" or arithmetic.is_reserved(key)


def _assignment(
    rng: random.Random, names: list[str], target: str, functions: dict[str, Operation]
) -> Assignment:
    source = names[-1] if rng.random() < 0.7 else rng.choice(names)
    if functions and rng.random() < 0.4:
        called = rng.choice(list(functions))
        return Assignment(target, source, *functions[called], called)
    return Assignment(target, source, *rng.choice(OPERATIONS))


def build(program: Program) -> Problem:
    """The problem: the program, its thinking text, and the value that it prints."""
    values, shown = program.values, program.shown
    asked: list[Piece] = []
    for name, (sign, operand) in program.functions.items():
        asked += _definition(name, sign, operand)
    asked += [
        Piece(program.first, "identifier"),
        Piece(" =", "operator"),
        Piece(f" {program.start}", "operand"),
        Piece("\n", "punctuation"),
    ]
    thought = [
        Piece(program.first, "identifier"),
        Piece("=", "operator"),
        Piece(str(program.start), "running value"),
        Piece("\n", "punctuation"),
    ]
    for line in program.lines:
        asked += _assignment_pieces(line)
        thought += _thinking_line(line, values[line.source], values[line.target])
    printed = _print_pieces(shown)
    value = str(values[shown])
    thought += [*printed, Piece("=", "operator"), Piece(value, "running value")]
    solved = (Piece(value, "result"),)
    steps = len(program.lines)
    asked += printed
    return Problem(FAMILY, "en", steps, program.key, tuple(asked), tuple(thought), solved)


def _definition(name: str, sign: str, operand: int) -> list[Piece]:
    """A definition such as `def f(x): return x + 3`."""
    return [
        Piece("def", "keyword"),
        Piece(f" {name}", "identifier"),
        Piece("(", "punctuation"),
        Piece("x", "identifier"),
        Piece("):", "punctuation"),
        Piece(" return", "keyword"),
        Piece(" x", "identifier"),
        Piece(f" {sign}", "operator"),
        Piece(f" {operand}", "operand"),
        Piece("\n", "punctuation"),
    ]


def _print_pieces(shown: str) -> list[Piece]:
    return [
        Piece("print", "keyword"),
        Piece("(", "punctuation"),
        Piece(shown, "identifier"),
        Piece(")", "punctuation"),
    ]


def _assignment_pieces(line: Assignment) -> list[Piece]:
    pieces = [Piece(line.target, "identifier"), Piece(" =", "operator")]
    return [*pieces, *_value_pieces(line, " "), Piece("\n", "punctuation")]


def _value_pieces(line: Assignment, space: str) -> list[Piece]:
    """The right side of an assignment, such as `a + 2` or `f(a)`."""
    if line.function:
        return [
            Piece(f"{space}{line.function}", "identifier"),
            Piece("(", "punctuation"),
            Piece(line.source, "identifier"),
            Piece(")", "punctuation"),
        ]
    return [
        Piece(f"{space}{line.source}", "identifier"),
        Piece(f"{space}{line.sign}", "operator"),
        Piece(f"{space}{line.operand}", "operand"),
    ]


def _thinking_line(line: Assignment, before: int, after: int) -> list[Piece]:
    """The thinking line of an assignment: `b=a+2=5+2=7` for `b = a + 2`."""
    return [
        Piece(line.target, "identifier"),
        Piece("=", "operator"),
        *_value_pieces(line, ""),
        Piece("=", "operator"),
        Piece(str(before), "copied value"),
        Piece(line.sign, "operator"),
        Piece(str(line.operand), "operand"),
        Piece("=", "operator"),
        Piece(str(after), "running value"),
        Piece("\n", "punctuation"),
    ]
