"""Questions with known answers: the protocol `Problem`, and a reader for JSON Lines files."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from qwen3lab.thinking.graders import Grader, boxed, grader_of


@runtime_checkable
class Problem(Protocol):
    """A question with its correct answer; see `tiny.problems` and `read_problems`."""

    @property
    def question(self) -> str:
        """Text of the question."""
        ...

    @property
    def answer(self) -> str:
        """The correct answer."""
        ...

    @property
    def level(self) -> str:
        """Difficulty, as named by the source; "" if unknown."""
        ...

    def read(self, reply: str) -> str:
        """The answer in a reply, normalised so that equal answers are equal strings."""
        ...

    def grade(self, reply: str) -> bool:
        """True if a reply gives the correct answer."""
        ...


@dataclass(frozen=True)
class Exercise:
    """A question with its correct answer and a grader.

    Attributes:
        question: text of the question.
        answer: the correct answer.
        level: difficulty; "" if unknown.
        grader: name of the grader; see `graders.GRADERS`.
    """

    question: str
    answer: str
    level: str = ""
    grader: str = "exact"

    def read(self, reply: str) -> str:
        """The answer in a reply, in a normalised spelling."""
        return self.how.read(reply)

    def grade(self, reply: str) -> bool:
        """True if a reply gives the correct answer."""
        return self.how.grade(reply, self.answer)

    @property
    def how(self) -> Grader:
        """The grader object."""
        return grader_of(self.grader)


def read_problems(path: str | Path, *, grader: str | None = None) -> list[Exercise]:
    """Read problems from a JSON Lines file: one object per line, with a question and an answer.

    Three layouts are supported: `question` and `answer`; GSM8K, whose `answer` ends in `#### 18`;
    and MATH, with `problem`, `level`, and an `answer` or a `solution` that contains a box. Other
    lines are skipped with a warning.

    Args:
        path: of the file.
        grader: name in `graders.GRADERS`; None means "last number" for GSM8K, "boxed" for MATH,
            and "exact" otherwise.

    Raises:
        ValueError: an unknown grader, or a file without any problem.
        OSError: the file cannot be read.
    """
    if grader is not None:
        grader_of(grader)
    path = Path(path)
    exercises: list[Exercise] = []
    skipped: list[str] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            exercises.append(_read(line, grader))
        except ValueError as error:
            skipped.append(f"line {number} of {path.name} {error}")
    if not exercises:
        reason = f": {skipped[0]}" if skipped else ": it is empty"
        raise ValueError(f"{path.name} holds no problem{reason}")
    for sentence in skipped:
        warnings.warn(f"{sentence}; the line is skipped", stacklevel=2)
    return exercises


def _read(line: str, grader: str | None) -> Exercise:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(fields, dict):
        raise ValueError("is not an object: expected one with a question and an answer")
    question = _text(fields, "question", "problem")
    if not question:
        raise ValueError("has no question: expected text under 'question' or 'problem'")
    answer, default_grader = _answer(fields)
    if not answer:
        raise ValueError(
            "has no answer: expected text under 'answer', or a 'solution' that contains a box"
        )
    return Exercise(question, answer, _text(fields, "level", "steps"), grader or default_grader)


def _answer(fields: Mapping[str, Any]) -> tuple[str, str]:
    """The answer, and the default grader of the line's layout."""
    answer = _text(fields, "answer")
    if "####" in answer:
        return answer.rpartition("####")[2].strip(), "last number"
    if "problem" in fields:
        return boxed(answer) or answer or boxed(_text(fields, "solution")), "boxed"
    return answer, "exact"


def _text(fields: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that is a string or a number, as text; "" if there is none."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return str(value).strip()
    return ""
