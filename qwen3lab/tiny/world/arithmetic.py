"""Running arithmetic: a start digit, then a chain of operations of which the last digit counts.

Every operation is a permutation of the ten digits (times is by 3 or 7 only), so no step erases
what came before and nobody can start in the middle: chance is one in ten. Operations are few, so
that single steps are soon known by heart, and long chains are what is hard. No two of them follow
each other twice in a chain, so that one can always tell which step comes next.

Values that were worked out are written in a circle, wherever they stand. The thinking is the
chain once more with each running value after its step; the answer is the last. The plain text of
the family is a tally: such a chain where some values are left out, which a reader has to carry
in the head.
"""

import itertools
import random
from collections.abc import Mapping
from types import MappingProxyType

from qwen3lab.tiny.world.problems import Piece, Problem, Split, split_of, walk
from qwen3lab.tiny.world.settings import Language

FAMILY = "arithmetic"
MAX_STEPS = 16
Operation = tuple[str, int]
OPERATIONS: tuple[Operation, ...] = (
    *((sign, operand) for sign in "+-" for operand in (1, 2, 3)),
    ("*", 3),
    ("*", 7),
)
CIRCLED = "⓪①②③④⑤⑥⑦⑧⑨"
SIGNS: Mapping[Language, Mapping[str, str]] = {
    "en": {"+": "+", "-": "-", "*": "*"},
    "zh": {"+": "加", "-": "减", "*": "乘"},
}
QUESTIONS: Mapping[Language, str] = {"en": "=?", "zh": "等于几？"}
IN_SYMBOLS, SHOWN = 2 / 3, 0.55


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
        operations = walk(rng, OPERATIONS, steps)
        key = f"{FAMILY}:{start}" + "".join(f"{sign}{operand}" for sign, operand in operations)
        if split_of(key) == split:
            return build(start, operations, key, rng)


def build(start: int, operations: list[Operation], key: str, rng: random.Random) -> Problem:
    """The problem with its wording, its thinking and its answer."""
    values = list(itertools.accumulate(operations, apply, initial=start))[1:]
    language: Language = "en" if rng.random() < IN_SYMBOLS else "zh"
    asked = (*_chain(start, operations, language), Piece(QUESTIONS[language], "question"))
    thought = _chain(start, operations, language, shown=dict(enumerate(values)))
    tally = _chain(start, operations, language, shown=_shown(start, operations, rng))
    return Problem(
        family=FAMILY,
        language=language,
        steps=len(operations),
        key=key,
        asked=asked,
        thought=tuple(thought),
        solved=(Piece(CIRCLED[values[-1]], "result"),),
        passage=(*tally, Piece("\n", "punctuation")),
    )


def _shown(start: int, operations: list[Operation], rng: random.Random) -> dict[int, int]:
    """Running values that a tally shows, by step.

    A value is never shown where the steps since the last one shown are a held-out problem: no
    text gives away its answer.
    """
    shown: dict[int, int] = {}
    value, key = start, f"{FAMILY}:{start}"
    for step, (sign, operand) in enumerate(operations):
        value = apply(value, (sign, operand))
        key += f"{sign}{operand}"
        if rng.random() < SHOWN and split_of(key) == "train":
            shown[step] = value
            key = f"{FAMILY}:{value}"
    return shown


def _chain(
    start: int,
    operations: list[Operation],
    language: Language,
    *,
    shown: Mapping[int, int] = MappingProxyType({}),
) -> list[Piece]:
    """As in `3+4*7` or `3加4乘7`; with values, `3+4⑦*7⑨`.

    The same layout in symbols and in words, so that what is learned of one serves the other.
    """
    pieces = [Piece(str(start), "operand")]
    for step, (sign, operand) in enumerate(operations):
        pieces += [Piece(SIGNS[language][sign], "operator"), Piece(str(operand), "operand")]
        if step in shown:
            pieces.append(Piece(CIRCLED[shown[step]], "running value", known=True))
    return pieces
