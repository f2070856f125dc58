"""What a task family is made of: problems whose truth is known, down to the single token."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Split = Literal["train", "held-out"]
HELD_OUT_SHARE = 10
"""One problem in this many is held out."""


@dataclass(frozen=True)
class Piece:
    """A stretch of text and the role that it plays, such as "operand" or "running value"."""

    text: str
    role: str


@dataclass(frozen=True)
class Problem:
    """A question, the thinking that solves it, and the answer.

    Attributes:
        family: the task family's name.
        language: "en" or "zh".
        steps: how many steps the solution takes.
        key: the problem without its wording; what decides which split it belongs to.
        asked: the question in pieces.
        thought: the thinking in pieces; one line per step.
        solved: the answer in pieces.
    """

    family: str
    language: str
    steps: int
    key: str
    asked: tuple[Piece, ...]
    thought: tuple[Piece, ...]
    solved: tuple[Piece, ...]

    @property
    def question(self) -> str:
        """The question's text."""
        return _text(self.asked)

    @property
    def thinking(self) -> str:
        """The thinking's text."""
        return _text(self.thought)

    @property
    def answer(self) -> str:
        """The answer's text."""
        return _text(self.solved)

    def grade(self, reply: str) -> bool:
        """True if a reply's answer, blanks at its ends aside, is the right one."""
        return reply.strip() == self.answer


@dataclass(frozen=True)
class TokenLabel:
    """The truth about one token.

    Attributes:
        family: the task family's name.
        language: "en" or "zh".
        part: "system", "question", "thinking", "answer", or "frame" for the chat's marks.
        role: the piece's role; "frame" outside of any piece.
    """

    family: str
    language: str
    part: str
    role: str


def split_of(key: str) -> Split:
    """The split that a problem belongs to, whatever its wording: its key's hash decides."""
    digest = hashlib.sha256(key.encode()).digest()
    return "held-out" if digest[0] % HELD_OUT_SHARE == 0 else "train"


def label_tokens(problem: Problem, text: str, tokenizer: Any) -> list[TokenLabel]:
    """Labels of the tokens of a text that holds the problem's question, thinking and answer.

    Args:
        problem: what the text is about.
        text: such as a rendered chat; parts are looked for in order, and those that it does
            not hold (a thinking that was left out) are passed over.
        tokenizer: a fast tokenizer, for its offsets.

    Returns:
        One label per token of `tokenizer(text)`. A token that spans pieces takes the label
        of the piece that most of it lies in.
    """
    parts = (("question", problem.asked), ("thinking", problem.thought), ("answer", problem.solved))
    frame = TokenLabel(problem.family, problem.language, "frame", "frame")
    owner = [frame] * len(text)
    start = 0
    for part, pieces in parts:
        found = text.find(_text(pieces), start)
        if found < 0:
            continue
        for piece in pieces:
            label = TokenLabel(problem.family, problem.language, part, piece.role)
            owner[found : found + len(piece.text)] = [label] * len(piece.text)
            found += len(piece.text)
        start = found
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = [owner[a:b] or [frame] for a, b in offsets["offset_mapping"]]
    return [max(set(span), key=lambda label: (span.count(label), label.role)) for span in spans]


def _text(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)
