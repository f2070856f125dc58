"""Graders: extract the answer from a reply and compare it with the correct one."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

NUMBER = re.compile(r"(?<![\w.])[-−]?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")
BOXES = ("\\boxed", "\\fbox")


@dataclass(frozen=True)
class Grader:
    """Extracts answers from replies and compares them.

    Attributes:
        name: of the grader.
        read: extracts the answer from a reply, in a normalised spelling; "" if there is none.
        same: True if an extracted answer equals the correct one; both come from `read`.
    """

    name: str
    read: Callable[[str], str]
    same: Callable[[str, str], bool]

    def grade(self, reply: str, answer: str) -> bool:
        """True if a reply gives this answer."""
        extracted = self.read(reply)
        return bool(extracted) and self.same(extracted, self.read(answer) or answer.strip())


def last_number(text: str) -> str:
    """The last number in a text, normalised: `$1,250.0` becomes `1250`; "" if there is none."""
    numbers = NUMBER.findall(text)
    return _plain_number(numbers[-1]) if numbers else ""


def _plain_number(text: str) -> str:
    try:
        value = Decimal(text.replace(",", "").replace("$", "").replace("−", "-"))
    except InvalidOperation:
        return text
    whole = value.to_integral_value()
    return str(int(whole)) if value == whole else str(value.normalize())


def boxed(text: str) -> str:
    """Content of the last box in a text, as in `\\boxed{\\frac{1}{2}}`, without whitespace."""
    start = max(text.rfind(box) for box in BOXES)
    opening = text.find("{", start) if start >= 0 else -1
    if opening < 0:
        return ""
    depth = 0
    for i in range(opening, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return "".join(text[opening + 1 : i].split())
    return ""


def _boxed_or_all(text: str) -> str:
    """Content of the last box; without a box, the whole text."""
    return boxed(text) or text.strip()


def equivalent(found: str, answer: str) -> bool:
    """True if two LaTeX expressions are mathematically equal, according to `math-verify`.

    Raises:
        ImportError: `math-verify` is not installed.
    """
    try:
        from math_verify import parse, verify
    except ImportError as error:
        raise ImportError(
            "comparing expressions needs the library math-verify: pip install 'qwen3lab[math]', "
            "or choose the grader “boxed”"
        ) from error
    # math-verify's time limits use signals, which work only in the main thread.
    parsing: dict[str, Any] = {"parsing_timeout": None, "raise_on_error": False}
    comparing: dict[str, Any] = {"timeout_seconds": None, "raise_on_error": False}
    expected, actual = (parse(f"${side}$", **parsing) for side in (answer, found))
    return bool(verify(expected, actual, **comparing))


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
        Grader("equivalent", _boxed_or_all, equivalent),
    )
}
"""By name: compare the whole answer, its last number, its box, or its mathematical value."""


def grader_of(name: str) -> Grader:
    """The grader of this name.

    Raises:
        ValueError: there is no such grader.
    """
    if name not in GRADERS:
        raise ValueError(f"there is no grader {name!r}: choose from {', '.join(GRADERS)}")
    return GRADERS[name]
