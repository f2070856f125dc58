"""Questions from outside of the world, which get a short honest reply.

A question is a template with words or numbers in its slots, with typos and other casing now and
then. Templates and words belong to a split by their hash. A held-out question has a held-out
template *and* held-out words; a training question has none of them. So the border of the world is
measured on templates and topics that no training text contains. The key of a problem is its
template. Words from the list of common words, names that are spelled, numbers and keyboard noise
belong to no split of their own: there, only the template is held out.
"""

import functools
import random
import re
from collections.abc import Callable, Mapping, Sequence

from qwen3lab.tiny.world.common_words import CHINESE, ENGLISH
from qwen3lab.tiny.world.first_questions import RESERVED_QUESTIONS, normalised
from qwen3lab.tiny.world.outside_numbers import NUMBERS
from qwen3lab.tiny.world.outside_templates import TEMPLATES
from qwen3lab.tiny.world.outside_words import WORD_LISTS
from qwen3lab.tiny.world.problems import Piece, Problem, Split, split_of
from qwen3lab.tiny.world.settings import Language

FAMILY = "outside"
MAX_STEPS = 1
ANSWERS: Mapping[Language, str] = {
    "en": "I only know my small world: sums, swaps, programs, stories, lists.",
    "zh": "我只知道我的小世界：算术、交换、程序、故事、列表。",
}
THINKING: Mapping[Language, str] = {
    "en": "This is not in my world.",
    "zh": "这不在我的小世界里。",
}
ENGLISH_PROBABILITY = 0.62
LOWER_CASE_PROBABILITY = 0.25
UPPER_CASE_PROBABILITY = 0.02
NO_MARK_PROBABILITY = 0.25
"""Probability that a question ends without its mark."""

TYPO_PROBABILITY = 0.08
BORDER_PROBABILITY = 0.25
"""Probability that a training question is arithmetic just outside of the world. This border, such
as results below zero, takes far more examples to learn than questions in other words."""

BORDER_SLOTS = re.compile(
    r"\{(below|above|product|operand|negative|brackets|decimals|broken)(words)?\}"
)
SLOT = re.compile(r"\{(\w+)\}")
MARKS = "?!.？！。"
COMMON_WORDS: Mapping[Language, Sequence[str]] = {"en": ENGLISH.split(), "zh": CHINESE.split()}
KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def draw(rng: random.Random, steps: int, split: Split) -> Problem:
    """A random question from this split; it has one step."""
    if steps != MAX_STEPS:
        raise ValueError(f"questions from outside of {steps} steps do not exist: expected 1")
    while True:
        language: Language = "en" if rng.random() < ENGLISH_PROBABILITY else "zh"
        at_border = split == "train" and rng.random() < BORDER_PROBABILITY
        template = rng.choice((border_templates if at_border else templates)(language, split))
        asked = _noisy(rng, _fill(rng, template, language, split))
        text = "".join(piece.text for piece in asked)
        if text.strip() and normalised(text) not in RESERVED_QUESTIONS:
            return build(asked, key_of(template))


def says_outside(answer: str) -> bool:
    """True if an embedded model's answer says that the question is outside of its world."""
    return answer.strip() in ANSWERS.values()


def key_of(template: str) -> str:
    """The key of the problems with this template."""
    return f"{FAMILY}:{template}"


def build(asked: Sequence[Piece], key: str) -> Problem:
    """The problem with the thinking and the answer in the language of the question."""
    has_chinese = any("一" <= character <= "鿿" for piece in asked for character in piece.text)
    language: Language = "zh" if has_chinese else "en"
    return Problem(
        family=FAMILY,
        language=language,
        steps=MAX_STEPS,
        key=key,
        asked=tuple(asked),
        thought=(Piece(THINKING[language], "outside"),),
        solved=(Piece(ANSWERS[language], "outside"),),
    )


@functools.cache
def templates(language: Language, split: Split) -> tuple[str, ...]:
    """The templates of a split; a template whose slots have no word in the split is left out."""
    return tuple(
        template
        for template in TEMPLATES[language]
        if split_of(key_of(template)) == split
        and all(
            slot not in WORD_LISTS[language] or words(language, slot, split)
            for slot in SLOT.findall(template)
        )
    )


@functools.cache
def border_templates(language: Language, split: Split) -> tuple[str, ...]:
    """The templates of a split whose questions are arithmetic just outside of the world."""
    return tuple(filter(BORDER_SLOTS.search, templates(language, split)))


@functools.cache
def words(language: Language, kind: str, split: Split) -> tuple[str, ...]:
    """The words of a kind that belong to a split."""
    return tuple(
        word for word in WORD_LISTS[language][kind] if split_of(f"{FAMILY} topic:{word}") == split
    )


def _fill(rng: random.Random, template: str, language: Language, split: Split) -> list[Piece]:
    """The pieces of a template with its slots filled."""
    pieces: list[Piece] = []
    for place, part in enumerate(SLOT.split(template)):
        if not part:
            continue
        if place % 2 == 0:
            pieces.append(Piece(part, "question"))
        elif part in WORD_LISTS[language]:
            word = rng.choice(words(language, part, split))
            if (
                word[0] in "aeiou"
                and pieces
                and pieces[-1].text.endswith((" a ", "Is a ", "Can a "))
            ):
                pieces[-1] = Piece(f"{pieces[-1].text[:-1]}n ", "question")
            pieces.append(Piece(word, "topic"))
        else:
            filled = NUMBERS[part] if part in NUMBERS else FILLERS[part]
            pieces.append(Piece(filled(rng, language), "topic"))
    return pieces


def _noisy(rng: random.Random, pieces: list[Piece]) -> list[Piece]:
    """The pieces, now and then with other casing, without the last mark, or with a typo."""
    if rng.random() < NO_MARK_PROBABILITY and "".join(p.text for p in pieces).strip(MARKS):
        last = pieces[-1]
        pieces = [*pieces[:-1], Piece(last.text.rstrip(MARKS), last.role)]
    elif rng.random() < NO_MARK_PROBABILITY:
        pieces = [Piece(p.text.replace("？", "?"), p.role) for p in pieces]
    casing = rng.random()
    if casing < LOWER_CASE_PROBABILITY:
        pieces = [Piece(p.text.lower(), p.role) for p in pieces]
    elif casing < LOWER_CASE_PROBABILITY + UPPER_CASE_PROBABILITY:
        pieces = [Piece(p.text.upper(), p.role) for p in pieces]
    if rng.random() < TYPO_PROBABILITY:
        place = rng.randrange(len(pieces))
        typo = Piece(_typo(rng, pieces[place].text), pieces[place].role)
        pieces = [*pieces[:place], typo, *pieces[place + 1 :]]
    return [piece for piece in pieces if piece.text]


def _typo(rng: random.Random, text: str) -> str:
    """The text with two letters swapped, or a letter missing, doubled or wrong.

    Only letters change: a number or sign that changes could turn the question into one of the
    world.
    """
    places = [n for n in range(len(text) - 1) if text[n].isalpha() and text[n + 1].isalpha()]
    if not places:
        return text
    at = rng.choice(places)
    before, first, second, after = text[:at], text[at], text[at + 1], text[at + 2 :]
    wrong = rng.choice("".join(KEYBOARD))
    changed = rng.choice((second + first, first, second, first + first + second, wrong + second))
    return f"{before}{changed}{after}"


def _common_words(language: Language) -> Sequence[str]:
    return COMMON_WORDS[language]


def _word(rng: random.Random, language: Language) -> str:
    return rng.choice(_common_words(language))


def _words(rng: random.Random, language: Language) -> str:
    """Two to seven common words in random order."""
    chosen = rng.sample(_common_words(language), rng.randint(2, 7))
    return (" " if language == "en" else "").join(chosen)


def _keys(rng: random.Random, _: Language) -> str:
    """Keyboard noise: keys of one row, or of all rows."""
    row = rng.choice((*KEYBOARD, "".join(KEYBOARD), "abcdefghijklmnopqrstuvwxyz;,./"))
    return "".join(rng.choice(row) for _ in range(rng.randint(2, 9)))


def _letters(rng: random.Random, _: Language) -> str:
    """One to five letters with spaces between them."""
    letters = [rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(1, 5))]
    return " ".join(letters)


def _spelled(rng: random.Random, language: Language) -> str:
    """A name, letter by letter."""
    return rng.choice((" ", "-", ".", ", ")).join(rng.choice(words(language, "name", "train")))


FILLERS: Mapping[str, Callable[[random.Random, Language], str]] = {
    "word": _word,
    "words": _words,
    "keys": _keys,
    "letters": _letters,
    "spelled": _spelled,
}
"""Draws the text of a slot that is neither a topic nor a number."""
