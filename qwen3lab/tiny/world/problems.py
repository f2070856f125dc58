"""What a task family is made of: problems whose truth is known, down to the single token."""

import hashlib
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Choice = TypeVar("Choice")
Split = Literal["train", "held-out"]
HELD_OUT_SHARE = 10
"""One problem in this many is held out."""


@dataclass(frozen=True)
class Piece:
    """A stretch of text whose truth is known.

    Attributes:
        text: as it is written.
        role: what it is, such as "operand" or "running value".
        known: True if it follows from what stands before it, so that it can be predicted.
    """

    text: str
    role: str
    known: bool = False


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
        passage: plain text that shows the same truth, or nothing.
    """

    family: str
    language: str
    steps: int
    key: str
    asked: tuple[Piece, ...]
    thought: tuple[Piece, ...]
    solved: tuple[Piece, ...]
    passage: tuple[Piece, ...] = ()

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

    @property
    def level(self) -> str:
        """How difficult it is: its steps."""
        return str(self.steps)

    def read(self, reply: str) -> str:
        """A reply's answer without blanks at its ends."""
        return reply.strip()

    def grade(self, reply: str) -> bool:
        """True if a reply's answer, blanks at its ends aside, is the right one."""
        return self.read(reply) == self.answer


@dataclass(frozen=True)
class TokenLabel:
    """The truth about one token.

    Attributes:
        family: the task family's name.
        language: "en" or "zh".
        part: "question", "thinking", "answer", "passage", or "frame" for the chat's marks and
            whatever else is around them.
        role: the piece's role; "frame" outside of any piece.
        known: True if the token follows from what stands before it.
    """

    family: str
    language: str
    part: str
    role: str
    known: bool = False


def split_of(key: str) -> Split:
    """The split that a problem belongs to, whatever its wording: its key's hash decides."""
    digest = hashlib.sha256(key.encode()).digest()
    return "held-out" if digest[0] % HELD_OUT_SHARE == 0 else "train"


def walk(rng: random.Random, choices: Sequence[Choice], n: int) -> list[Choice]:
    """A random row of choices of which no two follow each other twice.

    So the last two always tell how far in the row one is. With `c` choices there are rows of
    at most `c * c + 1`.
    """
    row = [rng.choice(choices)]
    while len(row) < n:
        met = [after for before, after in itertools.pairwise(row) if before == row[-1]]
        fresh = [choice for choice in choices if choice not in met]
        # Where every choice has followed this one already, begin anew.
        row = [*row, rng.choice(fresh)] if fresh else [rng.choice(choices)]
    return row


def label_tokens(problem: Problem, text: str, tokenizer: Any) -> list[TokenLabel]:
    """Labels of the tokens of a text that holds a problem's question, thinking and answer.

    Args:
        problem: what the text is about.
        text: such as a rendered chat, or the problem's passage; parts are looked for in
            order, and those that it does not hold (a thinking that was left out) are passed over.
        tokenizer: a fast tokenizer, for its offsets.

    Returns:
        One label per token of `tokenizer(text)`. A token that spans pieces takes the label
        of the piece that most of it lies in.
    """
    frame = TokenLabel(problem.family, problem.language, "frame", "frame")
    owner = [frame] * len(text)
    start = 0
    in_chat = problem.question in text
    for part in ("question", "thinking", "answer") if in_chat else ("passage",):
        labels = char_labels(problem, part)
        found = text.find(text_of(problem, part), start) if labels else -1
        if found >= 0:
            start = found + len(labels)
            owner[found:start] = labels
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = [owner[a:b] or [frame] for a, b in offsets["offset_mapping"]]
    return [max(set(span), key=lambda label: (span.count(label), label.role)) for span in spans]


def pieces_of(problem: Problem, part: str) -> tuple[Piece, ...]:
    """The pieces of a part: "passage", "question", "thinking" or "answer"."""
    return {
        "passage": problem.passage,
        "question": problem.asked,
        "thinking": problem.thought,
        "answer": problem.solved,
    }[part]


def text_of(problem: Problem, part: str) -> str:
    """The text of a part."""
    return _text(pieces_of(problem, part))


def char_labels(problem: Problem, part: str) -> list[TokenLabel]:
    """The label of every character of a part; thinking and answer follow from the question."""
    follows = part in ("thinking", "answer")
    return [
        TokenLabel(problem.family, problem.language, part, piece.role, follows or piece.known)
        for piece in pieces_of(problem, part)
        for _ in piece.text
    ]


def _text(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)
