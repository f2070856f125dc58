"""Problems: questions with known answers, and the reader of JSON Lines files with problems."""

import codecs
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from qwen3lab.storage.json_lines import parse_json_line
from qwen3lab.thinking.graders import Grader, boxed, grader_of
from qwen3lab.translation import tr


@runtime_checkable
class Problem(Protocol):
    """A question with its right answer, as `tiny.problems` and `read_problems` return it."""

    @property
    def question(self) -> str:
        """The text of the question."""
        ...

    @property
    def answer(self) -> str:
        """The right answer."""
        ...

    @property
    def level(self) -> str:
        """The difficulty, as its source names it; empty if unknown."""
        ...

    def read(self, reply: str) -> str:
        """The answer in a reply, normalised so that equal answers can be counted."""
        ...

    def grade(self, reply: str) -> bool:
        """True if the answer in a reply is right."""
        ...


@dataclass(frozen=True)
class Exercise:
    """A question with its answer.

    Attributes:
        question: the text of the question.
        answer: the right answer.
        level: the difficulty; empty if unknown.
        grader: name of the grader in `graders.GRADERS`.
    """

    question: str
    answer: str
    level: str = ""
    grader: str = "exact"

    def read(self, reply: str) -> str:
        """The answer in a reply, normalised by the grader."""
        return self.how.read(reply)

    def grade(self, reply: str) -> bool:
        """True if the answer in a reply is right."""
        return self.how.grade(reply, self.answer)

    @property
    def how(self) -> Grader:
        """The grader with the name `grader`."""
        return grader_of(self.grader)


def read_problems(path: str | Path, *, grader: str | None = None) -> list[Exercise]:
    """Read problems from a JSON Lines file: one object per line, with a question and an answer.

    Three formats are supported: `question` and `answer`; GSM8K, whose `answer` ends with
    `#### 18`; and MATH, with `problem`, `level`, and either `answer` or a `solution` with a
    `\\boxed` answer. Other lines are skipped with a warning.

    Args:
        path: path of the file.
        grader: name of the grader in `graders.GRADERS`; None for "last number" with GSM8K, "boxed"
            with MATH, and "exact" otherwise.

    Raises:
        ValueError: the grader is unknown, or the file contains no problem.
        OSError: the file cannot be read.
    """
    if grader is not None:
        grader_of(grader)
    path = Path(path)
    problems: list[Exercise] = []
    errors: list[str] = []
    if path.exists() and not path.is_file():
        raise ValueError(
            tr("{name} is not a regular file: expected one with a problem per line", name=path.name)
        )
    # Split at line feeds only: texts may contain other line separators, such as U+2028.
    lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            problems.append(_parse_line(line, grader))
        except ValueError as error:
            errors.append(
                tr("line {number} of {name} {error}", number=number, name=path.name, error=error)
            )
    if not problems:
        reason = f": {errors[0]}" if errors else tr(": it is empty")
        raise ValueError(tr("{name} contains no problem{reason}", name=path.name, reason=reason))
    for sentence in errors:
        warnings.warn(tr("{sentence}; the line is skipped", sentence=sentence), stacklevel=2)
    return problems


def _parse_line(line: bytes, grader: str | None) -> Exercise:
    """The problem in one line; the message of a ValueError continues "line 3 of file ..."."""
    fields = parse_json_line(line)
    if not isinstance(fields, dict):
        raise ValueError(tr("is not an object: expected one with a question and an answer"))
    question = _text(fields, "question", "problem")
    if not question:
        raise ValueError(tr("has no question: expected text under 'question' or 'problem'"))
    answer, default_grader = _answer(fields)
    if any("\ud800" <= letter <= "\udfff" for letter in question + answer):
        raise ValueError(tr("contains half of a character: a surrogate without its pair"))
    if not answer:
        raise ValueError(
            "has no answer: expected text under 'answer', or a 'solution' with a \\boxed answer"
        )
    return Exercise(question, answer, _text(fields, "level", "steps"), grader or default_grader)


def _answer(fields: Mapping[str, Any]) -> tuple[str, str]:
    """The answer, and the default grader of the format."""
    answer = _text(fields, "answer")
    if "####" in answer:
        return answer.rpartition("####")[2].strip(), "last number"
    if "problem" in fields:
        return boxed(answer) or answer or boxed(_text(fields, "solution")), "boxed"
    return answer, "exact"


def _text(fields: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that is a string or a number, as text; empty if there is none."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return str(value).strip()
    return ""
