"""The right answers to questions of the embedded world, computed from their text."""

import re

from qwen3lab.arguments import checked
from qwen3lab.tiny.world.arithmetic import MAX_VALUE, running_values

_CHAIN = re.compile(
    r"(?:what is )?(\d+(?: ?[-+*] ?\d+)+) ?=?(?:等于几|等于多少)? ?[?？]?", re.IGNORECASE
)
_SIGNS = str.maketrans("xX×加减乘", "***+-*")
_SWAPS = (
    (r"(\w+) has the (\w+)\.", r"(\w+) and (\w+) swap\.", r"What does (\w+) have\?", "{} {}"),
    (r"(\w{2})拿着(\w+)。", r"(\w{2})和(\w{2})交换。", r"(\w{2})拿着什么？", "{}{}"),
)
_MODE = re.compile(r"\s*/(no_)?think\s*$")


@checked
def truth(question: str) -> str | None:
    """The right answer to a sum or to a question about swaps.

    Sums are calculated from left to right, as the embedded models learned it.

    Args:
        question: as a person types it.

    Returns:
        The answer in the embedded models' wording; None for questions of other kinds, and for sums
        with a value below 0 or above 999, which are outside of the embedded world.

    Example:
        >>> import qwen3lab
        >>> qwen3lab.tiny.truth("12+30*2=?")
        '84'
    """
    asked = _MODE.sub("", question).strip()
    return _of_chain(asked) or _of_swaps(asked)


@checked
def mark(question: str, answer: str) -> str:
    """Whether an answer is "right", "wrong" or "not checked", because the truth is unknown.

    Args:
        question: of the embedded world, as in `truth`.
        answer: of a reply.
    """
    right = truth(question)
    if right is None:
        return "not checked"
    return "right" if answer.strip() == right else "wrong"


def _of_chain(asked: str) -> str | None:
    found = _CHAIN.fullmatch(asked.translate(_SIGNS))
    if found is None:
        return None
    start, *rest = re.findall(r"\d+|[-+*]", found[1])
    steps = [(sign, int(operand)) for sign, operand in zip(rest[::2], rest[1::2], strict=True)]
    values = running_values(int(start), steps)
    inside = all(0 <= value <= MAX_VALUE for value in (int(start), *values))
    return str(values[-1]) if inside else None


def _of_swaps(asked: str) -> str | None:
    for has, swap, what, wording in _SWAPS:
        if found := re.search(what, asked):
            held = dict(re.findall(has, asked))
            for one, other in re.findall(swap, asked):
                held[one], held[other] = held.get(other, ""), held.get(one, "")
            thing = held.get(found[1])
            return wording.format(found[1], thing) if thing else None
    return None
