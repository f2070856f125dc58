"""The wordings of arithmetic: symbols, brackets, English and Chinese."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwen3lab.tiny.world.problems import Piece
from qwen3lab.tiny.world.settings import Language

Operation = tuple[str, int]
STYLES: Mapping[str, float] = {
    "compact": 0.35,
    "spaced": 0.15,
    "brackets": 0.12,
    "english": 0.21,
    "chinese": 0.17,
}
"""Fractions of the wordings. Half of all problems are symbols without brackets."""

TIMES_SIGNS = ("*", "*", "*", "*", "x", "×")
ENDINGS: Mapping[str, float] = {"=?": 0.5, "=": 0.14, "?": 0.1, " = ?": 0.18, "": 0.08}
"""Ends of a question in symbols, with their fractions."""

WORDS: Mapping[Language, Mapping[str, str]] = {
    "en": {"+": " plus", "-": " minus", "*": " times"},
    "zh": {"+": "加", "-": "减", "*": "乘"},
}
WORDS_PROBABILITY = 0.5
"""Probability that a wording in a language has words instead of symbols for the operations."""

ENGLISH: Sequence[tuple[str, str]] = (
    *(("What is ", "?"),) * 6,
    *(("What's ", "?"),) * 3,
    *(("How much is ", "?"),) * 4,
    ("Compute ", "."),
    ("Compute ", "."),
    ("Calculate ", "."),
    ("Please calculate ", "."),
    ("Please compute ", "."),
    ("Tell me ", "."),
    ("Solve ", "."),
    ("Work out ", "."),
    ("Can you calculate ", "?"),
    ("What do you get for ", "?"),
    ("", " = what?"),
    ("", " is what?"),
    ("", " makes?"),
)
"""The text before and after a chain in English; frequent wordings occur repeatedly."""

CHINESE: Sequence[tuple[str, str]] = (
    *(("", "等于几？"),) * 4,
    *(("", "等于多少？"),) * 4,
    ("", "是多少？"),
    ("", "得多少？"),
    ("计算", "。"),
    ("计算", "。"),
    ("请计算", "。"),
    ("请问", "是多少？"),
    ("请问", "等于几？"),
    ("算一下", "。"),
    ("", "=多少？"),
)
"""The text before and after a chain in Chinese."""

LOWER_CASE_PROBABILITY = 0.35
NO_MARK_PROBABILITY = 0.2
"""Probability that a wording in a language ends without its question mark or full stop."""


@dataclass(frozen=True)
class Signs:
    """The texts of the operations, and the space before an operand."""

    operators: Mapping[str, str]
    space: str

    def operation(self, operation: Operation) -> list[Piece]:
        """The pieces of an operation, such as `+3`."""
        sign, operand = operation
        return [
            Piece(self.operators[sign], "operator"),
            Piece(f"{self.space}{operand}", "operand"),
        ]


def ask(
    rng: random.Random, start: int, operations: Sequence[Operation]
) -> tuple[Language, tuple[Piece, ...]]:
    """The language and the pieces of a chain's question in a random wording."""
    style = _draw(rng, STYLES)
    if style == "chinese":
        return "zh", _in_language(rng, start, operations, "zh")
    if style == "english":
        return "en", _in_language(rng, start, operations, "en")
    spaced = style == "spaced" or (style == "brackets" and rng.random() < 0.3)
    signs = symbols(rng, spaced=spaced)
    pair_up = bracketed if style == "brackets" else chain
    ending = Piece(_draw(rng, ENDINGS), "question")
    return "en", (*pair_up(start, operations, signs), *([ending] if ending.text else []))


def symbols(rng: random.Random, *, spaced: bool) -> Signs:
    """Symbols, with a random sign for multiplication."""
    space = " " if spaced else ""
    times = rng.choice(TIMES_SIGNS)
    return Signs({"+": f"{space}+", "-": f"{space}-", "*": f"{space}{times}"}, space)


def chain(start: int, operations: Sequence[Operation], signs: Signs) -> list[Piece]:
    """The pieces of a chain, such as `7+2*3`."""
    pieces = [Piece(str(start), "operand")]
    for operation in operations:
        pieces += signs.operation(operation)
    return pieces


def bracketed(start: int, operations: Sequence[Operation], signs: Signs) -> list[Piece]:
    """A chain with brackets that say its order, such as `((7+2)*3)-1`."""
    opened = [Piece("(", "bracket")] * (len(operations) - 1)
    pieces = [*opened, Piece(str(start), "operand")]
    for place, operation in enumerate(operations):
        pieces += [Piece(")", "bracket")] if place else []
        pieces += signs.operation(operation)
    return pieces


def _in_language(
    rng: random.Random, start: int, operations: Sequence[Operation], language: Language
) -> tuple[Piece, ...]:
    """A chain in words or symbols, within a question in this language."""
    before, after = rng.choice(ENGLISH if language == "en" else CHINESE)
    if rng.random() < WORDS_PROBABILITY:
        signs = Signs(WORDS[language], " " if language == "en" else "")
    else:
        signs = symbols(rng, spaced=language == "en" and rng.random() < 0.5)
    before = before.lower() if rng.random() < LOWER_CASE_PROBABILITY else before
    after = _ending(rng, before, after)
    pieces = [Piece(before, "question"), *chain(start, operations, signs), Piece(after, "question")]
    return tuple(piece for piece in pieces if piece.text)


def _ending(rng: random.Random, before: str, after: str) -> str:
    """The end of a question, sometimes without its mark or with an ASCII question mark."""
    if rng.random() < NO_MARK_PROBABILITY and (before or len(after) > 1):
        return after.rstrip("?.？。")
    return after.replace("？", "?") if rng.random() < NO_MARK_PROBABILITY else after


def _draw(rng: random.Random, shares: Mapping[str, float]) -> str:
    return rng.choices(list(shares), weights=list(shares.values()))[0]
