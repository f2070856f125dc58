"""Graders: extract the answer from a reply, and compare it with the right answer."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

NUMBER_PATTERN = re.compile(r"(?<![\w.])[-−]?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")
BOX_COMMANDS = ("\\boxed", "\\fbox")


@dataclass(frozen=True)
class Grader:
    """A pair of functions that extract and compare answers.

    Attributes:
        name: name of the grader.
        read: returns the normalised answer in a reply; empty if there is none.
        same: True if an answer equals the right answer, both normalised by `read`.
    """

    name: str
    read: Callable[[str], str]
    same: Callable[[str, str], bool]

    def grade(self, reply: str, answer: str) -> bool:
        """True if the answer in a reply equals `answer`."""
        given = self.read(reply)
        return bool(given) and self.same(given, self.read(answer) or answer.strip())


def last_number(text: str) -> str:
    """The last number of a text, normalised: `$1,250.0` gives `1250`; empty if there is none."""
    numbers = NUMBER_PATTERN.findall(text)
    return _normalise_number(numbers[-1]) if numbers else ""


def _normalise_number(text: str) -> str:
    try:
        value = Decimal(text.replace(",", "").replace("$", "").replace("−", "-"))
    except InvalidOperation:
        return text
    integer = value.to_integral_value()
    return str(int(integer)) if value == integer else str(value.normalize())


def boxed(text: str) -> str:
    """The content of the last `\\boxed{...}` or `\\fbox{...}` of a text, without whitespace."""
    start = max(text.rfind(box) for box in BOX_COMMANDS)
    brace = text.find("{", start) if start >= 0 else -1
    if brace < 0:
        return ""
    depth = 0
    for index in range(brace, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return "".join(text[brace + 1 : index].split())
    return ""


def _boxed_or_text(text: str) -> str:
    """The content of the last box; without a box, the text."""
    return boxed(text) or text.strip()


def equivalent(found: str, answer: str) -> bool:
    """True if the library `math-verify` finds two expressions mathematically equal.

    Raises:
        ImportError: the library is not installed; the message says how to install it.
    """
    try:
        from math_verify import parse, verify
    except ImportError as error:
        raise ImportError(
            "comparing expressions needs the library math-verify: pip install 'qwen3lab[math]', "
            "or choose the grader “boxed”"
        ) from error
    # No time limits: math-verify implements them by signals, which work only in the main thread.
    reading: dict[str, Any] = {"parsing_timeout": None, "raise_on_error": False}
    comparing: dict[str, Any] = {"timeout_seconds": None, "raise_on_error": False}
    right, given = (parse(f"${side}$", **reading) for side in (answer, found))
    return bool(verify(right, given, **comparing))


def _equal(found: str, answer: str) -> bool:
    return found == answer


def _equal_without_whitespace(found: str, answer: str) -> bool:
    return found == "".join(answer.split())


GRADERS = {
    grader.name: grader
    for grader in (
        Grader("exact", str.strip, _equal),
        Grader("last number", last_number, _equal),
        Grader("boxed", boxed, _equal_without_whitespace),
        Grader("equivalent", _boxed_or_text, equivalent),
    )
}
"""Graders by name. They compare the complete answer, its last number, the content of its last box,
or its mathematical value."""


def grader_of(name: str) -> Grader:
    """The grader with this name.

    Raises:
        ValueError: no grader has this name.
    """
    if name not in GRADERS:
        raise ValueError(f"there is no grader {name!r}: choose from {', '.join(GRADERS)}")
    return GRADERS[name]
