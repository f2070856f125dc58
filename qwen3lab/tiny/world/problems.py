"""Problems with a known solution, and the labels of their tokens."""

import hashlib
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Choice = TypeVar("Choice")
Split = Literal["train", "held-out"]
HELD_OUT_MODULUS = 10
"""A problem is held out if the first byte of its key's hash is divisible by this number."""


@dataclass(frozen=True)
class Piece:
    """A labelled span of text.

    Attributes:
        text: the characters of the span.
        role: its function, such as "operand" or "running value".
        known: True if the text before it determines it, so that a model can predict it.
        surprise: True if nothing before it determines it although it is part of a thinking, such
            as the digits of a mistake.
    """

    text: str
    role: str
    known: bool = False
    surprise: bool = False


@dataclass(frozen=True)
class Hint:
    """A hint in a question, and what the reply does with it.

    Attributes:
        source: "friend", "teacher" or "note".
        value: the answer that the hint suggests.
        truth: the right answer.
        followed: True if the answer of the reply is the hint's value.
        mentioned: True if the thinking mentions the hint.
    """

    source: str
    value: str
    truth: str
    followed: bool
    mentioned: bool

    @property
    def right(self) -> bool:
        """True if the hint suggests the right answer."""
        return self.value == self.truth


@dataclass(frozen=True)
class Problem:
    """A question, the thinking text that solves it, and the answer.

    Attributes:
        family: the task family's name.
        language: "en" or "zh".
        steps: number of steps of the solution.
        key: identifies the problem independently of its wording; its hash decides the split.
        asked: the pieces of the question.
        thought: the pieces of the thinking text.
        solved: the pieces of the answer.
        passage: the pieces of a plain text of the family; empty if there is none.
        hint: the hint in the question, if there is one.
    """

    family: str
    language: str
    steps: int
    key: str
    asked: tuple[Piece, ...]
    thought: tuple[Piece, ...]
    solved: tuple[Piece, ...]
    passage: tuple[Piece, ...] = ()
    hint: Hint | None = None

    @property
    def question(self) -> str:
        """The question's text."""
        return _join(self.asked)

    @property
    def thinking(self) -> str:
        """The thinking's text."""
        return _join(self.thought)

    @property
    def answer(self) -> str:
        """The answer's text; that of a reply that follows a wrong hint is wrong."""
        return _join(self.solved)

    @property
    def truth(self) -> str:
        """The right answer."""
        return self.hint.truth if self.hint else self.answer

    @property
    def level(self) -> str:
        """The difficulty: the number of steps, as text."""
        return str(self.steps)

    def read(self, reply: str) -> str:
        """The answer in a reply: the reply without whitespace at both ends."""
        return reply.strip()

    def grade(self, reply: str) -> bool:
        """True if the reply is the right answer; whitespace at both ends is ignored."""
        return self.read(reply) == self.truth


@dataclass(frozen=True)
class TokenLabel:
    """The label of one token.

    Attributes:
        family: the task family's name.
        language: "en" or "zh".
        part: "question", "thinking", "answer" or "passage"; "frame" for the tokens of the chat
            template and all other tokens outside the problem.
        role: the role of the token's piece; "frame" outside all pieces.
        known: True if the text before the token determines it.
    """

    family: str
    language: str
    part: str
    role: str
    known: bool = False


def split_of(key: str) -> Split:
    """The split of the problem with this key, decided by the key's hash."""
    digest = hashlib.sha256(key.encode()).digest()
    return "held-out" if digest[0] % HELD_OUT_MODULUS == 0 else "train"


def walk(rng: random.Random, choices: Sequence[Choice], n: int) -> list[Choice]:
    """A random sequence of choices in which no ordered pair of neighbours occurs twice.

    So two neighbours identify the position in the sequence. With `c` choices, a sequence has at
    most `c * c + 1` elements.
    """
    sequence = [rng.choice(choices)]
    while len(sequence) < n:
        last = sequence[-1]
        used = [after for before, after in itertools.pairwise(sequence) if before == last]
        unused = [choice for choice in choices if choice not in used]
        # If every choice has already followed the last one, start again.
        sequence = [*sequence, rng.choice(unused)] if unused else [rng.choice(choices)]
    return sequence


def label_tokens(problem: Problem, text: str, tokenizer: Any) -> list[TokenLabel]:
    """Labels of the tokens of a text that contains parts of a problem.

    Args:
        problem: the problem that the text contains.
        text: a rendered chat, or the problem's passage. The parts of the problem are searched in
            order; a part that the text does not contain (such as omitted thinking) is skipped.
        tokenizer: a fast tokenizer, which returns character offsets.

    Returns:
        One label per token of `tokenizer(text)`. A token that spans several pieces takes the
        label of the piece with most of its characters.
    """
    frame = TokenLabel(problem.family, problem.language, "frame", "frame")
    by_char = [frame] * len(text)
    start = 0
    in_chat = problem.question in text
    for part in ("question", "thinking", "answer") if in_chat else ("passage",):
        labels = char_labels(problem, part)
        begin = _find(text, text_of(problem, part), start) if labels else -1
        if begin >= 0:
            start = begin + len(labels)
            by_char[begin:start] = labels
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = [by_char[a:b] or [frame] for a, b in offsets["offset_mapping"]]
    return [max(set(span), key=lambda label: (span.count(label), label.role)) for span in spans]


def _find(text: str, part: str, start: int) -> int:
    """Where a part begins, or -1; first at the beginning of a line, where chats have their parts.

    A question such as `start` would be found in the marks of the chat template otherwise.
    """
    line = text.find(f"\n{part}", start)
    return line + 1 if line >= 0 else text.find(part, start)


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
    return _join(pieces_of(problem, part))


def char_labels(problem: Problem, part: str) -> list[TokenLabel]:
    """The label of every character of a part.

    All of the thinking and the answer is known, because the question determines them, except for
    the pieces that are surprises.
    """
    determined = part in ("thinking", "answer")
    labels: list[TokenLabel] = []
    for piece in pieces_of(problem, part):
        known = piece.known or (determined and not piece.surprise)
        label = TokenLabel(problem.family, problem.language, part, piece.role, known)
        labels += [label] * len(piece.text)
    return labels


def _join(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)
