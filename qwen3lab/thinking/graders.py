"""What a reply answers, and whether that is right."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

NUMBER = re.compile(r"(?<![\w.])[-−]?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")
BOXES = ("\\boxed", "\\fbox")


@dataclass(frozen=True)
class Grader:
    """A way to read an answer out of a reply, and to compare it with the right one.

    Attributes:
        name: of the grader.
        read: the answer that a reply gives, in one spelling; empty if it gives none.
        same: whether what was read is the right answer, read likewise.
    """

    name: str
    read: Callable[[str], str]
    same: Callable[[str, str], bool]

    def grade(self, reply: str, answer: str) -> bool:
        """True if a reply gives this answer."""
        found = self.read(reply)
        return bool(found) and self.same(found, self.read(answer) or answer.strip())


def last_number(text: str) -> str:
    """The last number of a text, without separators of thousands: `$1,250.0` is `1250`."""
    found = NUMBER.findall(text)
    return _plain_number(found[-1]) if found else ""


def _plain_number(text: str) -> str:
    try:
        value = Decimal(text.replace(",", "").replace("$", "").replace("−", "-"))
    except InvalidOperation:
        return text
    whole = value.to_integral_value()
    return str(int(whole)) if value == whole else str(value.normalize())


def boxed(text: str) -> str:
    """What stands in the last box of a text, as in `\\boxed{\\frac{1}{2}}`, without blanks."""
    start = max(text.rfind(box) for box in BOXES)
    opened = text.find("{", start) if start >= 0 else -1
    if opened < 0:
        return ""
    depth = 0
    for place in range(opened, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return "".join(text[opened + 1 : place].split())
    return ""


def _written(text: str) -> str:
    """What stands in the last box; without a box, the text."""
    return boxed(text) or text.strip()


def equivalent(found: str, answer: str) -> bool:
    """True if two expressions are mathematically the same, by the library `math-verify`.

    Raises:
        ImportError: the library is not installed; the message says how to get it.
    """
    try:
        from math_verify import parse, verify
    except ImportError as error:
        raise ImportError(
            "comparing expressions needs the library math-verify: pip install 'qwen3lab[math]', "
            "or choose the grader “boxed”"
        ) from error
    # Its own time limits use signals, which only a main thread may.
    reading: dict[str, Any] = {"parsing_timeout": None, "raise_on_error": False}
    comparing: dict[str, Any] = {"timeout_seconds": None, "raise_on_error": False}
    right, given = (parse(f"${side}$", **reading) for side in (answer, found))
    return bool(verify(right, given, **comparing))


def _equal(found: str, answer: str) -> bool:
    return found == answer


def _equal_but_for_blanks(found: str, answer: str) -> bool:
    return found == "".join(answer.split())


GRADERS = {
    grader.name: grader
    for grader in (
        Grader("exact", str.strip, _equal),
        Grader("last number", last_number, _equal),
        Grader("boxed", boxed, _equal_but_for_blanks),
        Grader("equivalent", _written, equivalent),
    )
}
"""By name: the whole answer; its last number; what stands in its box; the same mathematically."""


def grader_of(name: str) -> Grader:
    """The grader of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in GRADERS:
        raise ValueError(f"there is no grader {name!r}: choose from {', '.join(GRADERS)}")
    return GRADERS[name]
