"""Running arithmetic: a start digit and a chain of operations modulo 10.

Every operation is a permutation of the ten digits (multiplication is by 3 or 7 only). No step
loses information about the earlier steps, and guessing is right one time in ten. There are only
eight operations, so a model memorises single steps early; long chains are the difficult part. No
ordered pair of operations occurs twice in a chain, so the last two operations identify the
position in the chain.

Computed values are written as circled digits. The thinking text is the chain with the running
value after each step; the answer is the last running value. The plain text of the family is a
"tally": the same chain with some running values left out, which the model must compute
internally.
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
SYMBOL_WORDING_PROBABILITY = 2 / 3
"""Probability that a problem is written with symbols; the others are written in Chinese."""

SHOWN_VALUE_PROBABILITY = 0.55
"""Probability that a tally shows the running value after a step."""


def apply(value: int, operation: Operation) -> int:
    """The value modulo 10 after one operation."""
    sign, operand = operation
    if sign == "+":
        return (value + operand) % 10
    return (value - operand) % 10 if sign == "-" else value * operand % 10


def draw(rng: random.Random, steps: int, split: Split) -> Problem:
    """A random problem with this number of steps, from this split."""
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"arithmetic of {steps} steps does not exist: expected 1 to {MAX_STEPS}")
    while True:
        start = rng.randrange(10)
        operations = walk(rng, OPERATIONS, steps)
        key = f"{FAMILY}:{start}" + "".join(f"{sign}{operand}" for sign, operand in operations)
        if split_of(key) == split:
            return build(start, operations, key, rng)


def build(start: int, operations: list[Operation], key: str, rng: random.Random) -> Problem:
    """The problem with its wording, thinking text and answer."""
    values = list(itertools.accumulate(operations, apply, initial=start))[1:]
    language: Language = "en" if rng.random() < SYMBOL_WORDING_PROBABILITY else "zh"
    asked = (*_chain(start, operations, language), Piece(QUESTIONS[language], "question"))
    thought = _chain(start, operations, language, shown=dict(enumerate(values)))
    tally = _chain(start, operations, language, shown=_values_to_show(start, operations, rng))
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


def _values_to_show(start: int, operations: list[Operation], rng: random.Random) -> dict[int, int]:
    """Running values that a tally shows, by step.

    The steps between two shown values form a problem of their own. If that problem is held out,
    the value is not shown, so that no training text contains its answer.
    """
    shown: dict[int, int] = {}
    value, key = start, f"{FAMILY}:{start}"
    for step, (sign, operand) in enumerate(operations):
        value = apply(value, (sign, operand))
        key += f"{sign}{operand}"
        if rng.random() < SHOWN_VALUE_PROBABILITY and split_of(key) == "train":
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
    """The chain, such as `3+4*7` or `3加4乘7`; with running values, `3+4⑦*7⑨`.

    Both wordings have the same layout, so that learning one helps with the other.
    """
    pieces = [Piece(str(start), "operand")]
    for step, (sign, operand) in enumerate(operations):
        pieces += [Piece(SIGNS[language][sign], "operator"), Piece(str(operand), "operand")]
        if step in shown:
            pieces.append(Piece(CIRCLED[shown[step]], "running value", known=True))
    return pieces
