"""Compares two answers: which parts of their texts differ, and whether they say the same."""

import functools
import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from importlib.util import find_spec

from qwen3lab.thinking.graders import GRADERS
from qwen3lab.translation import language, later, tr

CJK = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
"""Ranges of Chinese, Japanese and Korean characters and their punctuation."""

UNIT = re.compile(rf"[{CJK}]|[^\W{CJK}]+|[^\w\s]")
"""Units of a comparison: one CJK character, one word, or one mark; white space is none."""

CODE = re.compile(r"^ {0,3}```.*?(?:^ {0,3}```[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
"""A fenced block of code, in Markdown; one that is not closed reaches to the end."""

MAX_EXACT_UNITS = 4000
"""Longest text that is compared without difflib's shortcut for units that occur often."""

HOW = {
    "boxed": (later("box: {found}"), later("boxes: {found}, {expected}")),
    "last number": (later("last number: {found}"), later("last numbers: {found}, {expected}")),
}
"""What was compared, for equal and for different answers."""

Range = tuple[int, int]


@dataclass(frozen=True)
class Verdict:
    """Whether two answers say the same.

    Attributes:
        same: True if the grader finds them equal.
        how: what was compared, such as "last number: 24 and 16".
    """

    same: bool
    how: str


def judge(answer: str, reference: str) -> Verdict:
    """Compares answers by what they say: their boxes, else their last numbers, else their texts.

    Numbers inside blocks of code are not the answer, unless there is nothing else.
    """
    return _judged(answer, reference, language())


@functools.lru_cache(maxsize=1024)
def _judged(answer: str, reference: str, shown_language: str) -> Verdict:
    one, other = _without_code(answer), _without_code(reference)
    for name in ("boxed", "last number"):
        read = GRADERS[name].read
        found, expected = read(one), read(other)
        if found and expected:
            return _verdict(name, found, expected)
    found, expected = " ".join(answer.split()), " ".join(reference.split())
    return Verdict(found == expected, tr("the whole text"))


def _verdict(name: str, found: str, expected: str) -> Verdict:
    same = GRADERS[name].same(found, expected)
    if not same and name == "boxed" and find_spec("math_verify") is not None:
        same = GRADERS["equivalent"].same(found, expected)
    equal, different = HOW["boxed" if name == "boxed" else "last number"]
    how = equal if found == expected else different
    return Verdict(same, tr(how, found=found, expected=expected))


def _without_code(answer: str) -> str:
    bare = CODE.sub("", answer)
    return bare if bare.strip() else answer


def differences(one: str, other: str) -> tuple[list[Range], list[Range]]:
    """The ranges of characters of each text that the other one does not have.

    Words are compared as a whole, Chinese, Japanese and Korean text by characters. White space is
    not compared.
    """
    units = [list(UNIT.finditer(text)) for text in (one, other)]
    words = [[unit.group() for unit in listed] for listed in units]
    frequent = max(map(len, words)) > MAX_EXACT_UNITS
    matcher = SequenceMatcher(None, *words, autojunk=frequent)
    ranges: tuple[list[Range], list[Range]] = ([], [])
    for kind, *edges in matcher.get_opcodes():
        for side, (first, end) in enumerate((edges[:2], edges[2:])):
            if kind != "equal" and first < end:
                ranges[side].append((units[side][first].start(), units[side][end - 1].end()))
    return ranges
