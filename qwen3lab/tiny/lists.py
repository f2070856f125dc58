"""Lists to look things up in, sequences to repeat, words to count.

Everything is drawn at random, so there is nothing to know: what is asked stands in the text.
"""

import random

from qwen3lab.tiny.problems import Piece, Problem, Split, split_of
from qwen3lab.tiny.words import CHINESE, ENGLISH
from qwen3lab.tiny.world import WORLDS, Language

FAMILY = "lists"
MIN_STEPS, MAX_STEPS = 2, 12
KINDS = ("look-up", "repeat", "count")
BETWEEN: dict[Language, tuple[str, ...]] = {
    "en": (" ", " ", " ", " ", ", ", "\n"),
    "zh": ("", "", "、", "\n"),
}
SYMBOLS = tuple("0123456789abcdehkmnfg")


def draw(rng: random.Random, steps: int, split: Split) -> Problem:
    """A list of so many entries from a split: to look up, to repeat or to count."""
    if not MIN_STEPS <= steps <= MAX_STEPS:
        raise ValueError(
            f"lists of {steps} entries do not exist: expected {MIN_STEPS} to {MAX_STEPS}"
        )
    while True:
        kind, language = rng.choice(KINDS), rng.choice(tuple(WORLDS))
        build = {"look-up": look_up, "repeat": repeat, "count": count}[kind]
        problem = build(rng, steps, language)
        if split_of(problem.key) == split:
            return problem


def look_up(rng: random.Random, steps: int, language: Language) -> Problem:
    """As in `ball 7, key 3. key?`; the passage goes through the list again in another order."""
    words = rng.sample(pool(language), steps)
    values = [str(rng.randrange(10)) for _ in words]
    blank, comma, stop, mark = _signs(language)
    entries: list[Piece] = []
    for place, (word, value) in enumerate(zip(words, values, strict=True)):
        entries += [Piece(comma, "punctuation")] if place else []
        entries += [Piece(word, "key"), Piece(f"{blank}{value}", "value")]
    entries.append(Piece(stop, "punctuation"))
    again: list[Piece] = []
    for place, at in enumerate(rng.sample(range(steps), steps)):
        again += [Piece(comma, "punctuation", True)] if place else []
        again += [Piece(words[at], "key"), Piece(f"{blank}{values[at]}", "value", True)]
    wanted = rng.randrange(steps)
    asked = (*entries, Piece(words[wanted], "key"), Piece(mark, "punctuation"))
    solved = (Piece(values[wanted], "value"),)
    return _problem("look-up", language, steps, asked, solved, (*entries, *again))


def repeat(rng: random.Random, steps: int, language: Language) -> Problem:
    """As in `tree king moon. Again?`; the passage is the sequence several times over.

    Its words are all different. So after its first word, a repetition follows from the
    sequence; the first word does not, because nothing says that the sequence is over.
    """
    words = rng.sample(everything(language), steps)
    between = rng.choice(BETWEEN[language])
    _, _, stop, mark = _signs(language)
    said = _spoken(words, between)
    asked = (*said, Piece(stop, "punctuation"), Piece(_again(language), "question"))
    asked = (*asked, Piece(mark, "punctuation"))
    first = [Piece(f"{between}{word}", "word") for word in words]
    later = [Piece(piece.text, "word", place > 0) for place, piece in enumerate(first)]
    passage = (*first, *later, *(later if rng.random() < 0.5 else ()))
    return _problem("repeat", language, len(words), asked, said, passage)


def count(rng: random.Random, steps: int, language: Language) -> Problem:
    """As in `ball key ball. ball?`; the passage says after each word how often it has come."""
    few = rng.sample(pool(language), max(2, steps // 2))
    words = [rng.choice(few) for _ in range(steps)]
    blank, comma, stop, mark = _signs(language)
    wanted = rng.choice(words)
    said = _spoken(words, blank or "、")
    asked = (*said, Piece(stop, "punctuation"), Piece(wanted, "word"))
    asked = (*asked, Piece(mark, "punctuation"))
    solved = (Piece(str(words.count(wanted)), "count"),)
    passage: list[Piece] = []
    for place, word in enumerate(words):
        number = words[: place + 1].count(word)
        passage += [Piece(comma, "punctuation")] if place else []
        passage += [Piece(word, "word"), Piece(f"{blank}{number}", "count", True)]
    return _problem("count", language, steps, asked, solved, tuple(passage))


def _problem(
    kind: str,
    language: Language,
    steps: int,
    asked: tuple[Piece, ...],
    solved: tuple[Piece, ...],
    passage: tuple[Piece, ...],
) -> Problem:
    text = "".join(piece.text for piece in (*asked, *passage))
    key = f"{FAMILY}:{kind}:{language}:{text}"
    return Problem(FAMILY, language, steps, key, asked, (), solved, passage)


def _spoken(words: list[str], blank: str) -> tuple[Piece, ...]:
    return tuple(Piece(f"{blank if n else ''}{word}", "word") for n, word in enumerate(words))


def pool(language: Language) -> list[str]:
    """Words that lists are made of; every one is a single token."""
    world = WORLDS[language]
    return sorted({*world.words, *world.objects, *world.animals})


def everything(language: Language) -> list[str]:
    """Words and signs of all kinds, so that what is learned by repeating holds for all."""
    common = ENGLISH if language == "en" else CHINESE
    return sorted({*WORLDS[language].vocabulary, *common.split(), *SYMBOLS})


def _signs(language: Language) -> tuple[str, str, str, str]:
    """Blank, comma, full stop and question mark as each language writes them."""
    return (" ", ", ", ". ", "?") if language == "en" else ("", "，", "。", "？")


def _again(language: Language) -> str:
    return "Again" if language == "en" else "再说"
