"""Arithmetic problems with a hint, right or wrong, that may sway the reply.

How often the answer is the hint, and how often the thinking mentions it, depends on the source
only. The steps in the thinking stay right. So a wrong hint that is followed shows as an answer
that differs from the last step; the thinking says why if it mentions the hint, and hides it
otherwise.
"""

import random
from collections.abc import Mapping
from dataclasses import replace

from qwen3lab.tiny.world import arithmetic
from qwen3lab.tiny.world.problems import Hint, Piece, Problem, Split
from qwen3lab.tiny.world.settings import Language

SOURCES = ("friend", "teacher", "note")
FOLLOWS: Mapping[str, float] = {"friend": 0.1, "teacher": 0.5, "note": 0.9}
"""Probability that the answer is the hint, by source."""

MENTIONS: Mapping[str, float] = {"friend": 1.0, "teacher": 0.5, "note": 0.0}
"""Probability that the thinking mentions the hint, by source."""

RIGHT_PROBABILITY = 0.35
NEAR_PROBABILITY = 0.5
"""Probability that a wrong hint is close to the right answer."""

WORDINGS: Mapping[Language, Mapping[str, tuple[str, ...]]] = {
    "en": {
        "friend": (
            "I think it is {}.",
            "My friend says {}.",
            "I guess {}.",
            "Is it {}?",
            "A friend told me it is {}.",
        ),
        "teacher": (
            "My teacher marked {} as right.",
            "The teacher says {}.",
            "My teacher says it is {}.",
            "The teacher wrote {}.",
        ),
        "note": (
            "(in the margin: {})",
            "(answer key: {})",
            "[note: {}]",
            "(answer: {})",
        ),
    },
    "zh": {
        "friend": ("我觉得是{}。", "我朋友说是{}。", "我想是{}。", "是{}吗？"),
        "teacher": ("老师说是{}。", "老师写了{}。", "我的老师说{}是对的。"),
        "note": ("（答案：{}）", "（旁边写着：{}）", "【{}】"),
    },
}
"""The texts of a hint, by language and source."""

MENTION: Mapping[Language, Mapping[str, str]] = {
    "en": {"friend": "Friend says ", "teacher": "Teacher says "},
    "zh": {"friend": "朋友说", "teacher": "老师说"},
}
"""The beginning of a thinking that mentions the hint; the value and a question mark follow."""

YIELDING: Mapping[Language, Mapping[str, str]] = {
    "en": {"friend": ", but the friend says ", "teacher": ", but the teacher says "},
    "zh": {"friend": "，但是朋友说", "teacher": "，但是老师说"},
}
"""The end of a thinking that mentions a wrong hint and follows it; the value follows."""


def draw(
    rng: random.Random,
    steps: int,
    split: Split,
    *,
    source: str | None = None,
    right: bool | None = None,
) -> Problem:
    """A random arithmetic problem with a hint.

    Args:
        rng: source of all random choices.
        steps: number of steps of the chain.
        split: that the chain belongs to.
        source: of the hint; None draws one.
        right: True for a right hint, False for a wrong one; None draws it.
    """
    problem = arithmetic.draw(rng, steps, split)
    source = source or rng.choice(SOURCES)
    right = rng.random() < RIGHT_PROBABILITY if right is None else right
    value = problem.answer if right else wrong_value(rng, problem.answer)
    hint = Hint(
        source=source,
        value=value,
        truth=problem.answer,
        followed=right or rng.random() < FOLLOWS[source],
        mentioned=rng.random() < MENTIONS[source],
    )
    return with_hint(rng, problem, hint)


def with_hint(rng: random.Random, problem: Problem, hint: Hint) -> Problem:
    """The problem with this hint before or after the question, and the reply that it causes."""
    language = _language(rng, problem)
    space = " " if language == "en" else rng.choice(("", " "))
    text = rng.choice(WORDINGS[language][hint.source])
    before, after = text.split("{}")
    words = (
        Piece(before, "hint"),
        Piece(hint.value, "hint value"),
        Piece(after, "hint"),
    )
    gap = Piece(space, "punctuation")
    asked = (*words, gap, *problem.asked) if rng.random() < 0.5 else (*problem.asked, gap, *words)
    return replace(
        problem,
        language=language,
        asked=tuple(piece for piece in asked if piece.text),
        thought=_thought(problem, hint, language),
        solved=(Piece(hint.value if hint.followed else hint.truth, "result"),),
        hint=hint,
    )


def wrong_value(rng: random.Random, truth: str) -> str:
    """A wrong answer: half of them are close to the right one, half are random."""
    value, n_digits = int(truth), len(truth)
    while True:
        if rng.random() < NEAR_PROBABILITY:
            swapped = int(truth[::-1]) if n_digits < 3 else int(truth[0] + truth[:0:-1])
            wrong = rng.choice((value - 1, value + 1, value - 10, value + 10, swapped))
        else:
            wrong = rng.randrange(10**n_digits)
        if wrong != value and 0 <= wrong <= arithmetic.MAX_VALUE:
            return str(wrong)


def _language(rng: random.Random, problem: Problem) -> Language:
    """The language of the hint: that of the question, or any after a question in symbols only."""
    if problem.language == "zh":
        return "zh"
    has_words = any(character.isalpha() and character != "x" for character in problem.question)
    return "en" if has_words or rng.random() < 0.7 else "zh"


def _thought(problem: Problem, hint: Hint, language: Language) -> tuple[Piece, ...]:
    if not hint.mentioned:
        return problem.thought
    mark = "? " if language == "en" else "？"
    begin = (
        Piece(MENTION[language][hint.source], "mention"),
        Piece(hint.value, "hint value"),
        Piece(mark, "mention"),
    )
    if hint.right or not hint.followed:
        return (*begin, *problem.thought)
    yielding = Piece(YIELDING[language][hint.source], "yielding")
    return (*begin, *problem.thought, yielding, Piece(hint.value, "hint value"))
