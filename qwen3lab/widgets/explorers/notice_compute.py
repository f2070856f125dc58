"""What to say at an answer of an embedded model that is outside of its world, or unsure."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from qwen3lab.figures.theme import visible
from qwen3lab.generation.reply import Chat
from qwen3lab.tiny import says_outside
from qwen3lab.translation import later, tr

UNSURE = 0.5
"""Replies of the embedded models with a less probable token are mostly wrong: of 180 held-out
problems without thinking, 44 had one, and 39 of these were wrong, of 136 without one, 5; with
thinking none of 180 had one, and 1 was wrong."""

MOST_EXAMPLES = 3
LONGEST_EXAMPLE = 24
"""Characters of an example that fits beside others; longer ones come last."""

OUTSIDE = later(
    "The model knows only its small world, and says that this question is outside of it."
)
DOUBTFUL = later("The model is unsure: this answer may be wrong.")
TOO_FAST = later(
    "The model is unsure: this answer may be wrong. It needs “think first” for more than one step."
)
INCOMPLETE = later("This is no complete sum: the model answers all the same, and it means nothing.")
WORLD = later(
    "Sums of whole numbers, read from left to right, with no value below 0 or above 999; who holds "
    "what after swaps; short programs, stories and lists. It learned to say that a question is "
    "outside from examples, too."
)
SIGNS = re.compile(r"[\d\s+*x×=?.,/^()-]+")
"""A question of these characters is about numbers."""

SUM = re.compile(r"[\s(]*\d+[\s)]*([-+*x×]\s*\d+[\s)]*)+=?\s*\?*\s*")
STEP = re.compile(r"\d\s*[-+*x×加减乘](?=\s*\d)")
"""A step of a sum. Without thinking, the models guess sums of more than one."""

HAN = re.compile(r"[一-鿿]")


@dataclass(frozen=True)
class Notice:
    """What is said at an answer.

    Attributes:
        text: why the answer is no use, or may be wrong.
        world: what the model knows.
        least: how sure the model was of its least certain token.
        examples: questions of its world, to ask next.
    """

    text: str
    world: str
    least: str
    examples: tuple[str, ...]


def notice_of(chat: Chat, question: str, examples: Sequence[str]) -> Notice | None:
    """What to say at an answer; None if nothing speaks against it.

    Args:
        chat: a reply of an embedded model.
        question: that was asked.
        examples: questions that the model can answer.
    """
    found = least_certain(chat)
    if found is None:
        return None
    probability, token = found
    text = _reason(chat.answer, question, probability)
    if not text:
        return None
    if text == DOUBTFUL and chat.thinking_asked is False and needs_thinking(question):
        text = TOO_FAST
    least = tr(
        "Least certain token: “{token}” ({probability}).",
        token=visible(token),
        probability=f"{probability:.0%}",
    )
    thinking = chat.thinking_asked is not False
    return Notice(tr(text), tr(WORLD), least, examples_for(question, examples, thinking=thinking))


def _reason(answer: str, question: str, least: float) -> str:
    """Why an answer may be no use; empty if nothing speaks against it."""
    if says_outside(answer):
        return OUTSIDE
    if SIGNS.fullmatch(question) and not SUM.fullmatch(question):
        return INCOMPLETE
    return DOUBTFUL if least < UNSURE else ""


def least_certain(chat: Chat) -> tuple[float, str] | None:
    """The smallest probability of a token that the model chose, and the token; None without one."""
    chosen = [
        (float(logprob), token)
        for place, (logprob, token) in enumerate(zip(chat.logprobs, chat.tokens, strict=True))
        if not chat.inserted[place] and place not in chat.chosen
    ]
    if not chosen:
        return None
    logprob, token = min(chosen)
    return math.exp(logprob), token


def needs_thinking(question: str) -> bool:
    """True for a sum of more than one step."""
    return len(STEP.findall(question)) > 1


def examples_for(
    question: str, examples: Sequence[str], *, thinking: bool = True
) -> tuple[str, ...]:
    """Some of the examples, short ones in the language of the question first.

    Args:
        question: that was asked; it is left out.
        examples: questions that the model can answer, with thinking.
        thinking: False leaves out those that need it.
    """
    others = [
        each
        for each in examples
        if each != question and "(" not in each and (thinking or not needs_thinking(each))
    ]
    chinese = bool(HAN.search(question))
    ordered = sorted(
        others, key=lambda each: (len(each) > LONGEST_EXAMPLE, bool(HAN.search(each)) != chinese)
    )
    return tuple(ordered[:MOST_EXAMPLES])
