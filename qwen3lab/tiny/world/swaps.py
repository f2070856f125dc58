"""Object tracking: three people hold three objects, and pairs of people swap.

A swap is a permutation of the objects, so no step can be skipped. The thinking text has one line
per swap: the objects of the two people before it, then the objects of all three after it. The
answer names the person and the object. The plain text of the family states the swaps and, after
some of them, who holds which object.
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from qwen3lab.tiny.world.problems import Piece, Problem, Split, split_of, walk
from qwen3lab.tiny.world.settings import WORLDS, Language

FAMILY = "swaps"
MAX_STEPS = 8
N_PEOPLE = 3
NOTE_PROBABILITY = 0.6
"""Probability that a passage states a person's object after a swap."""

Pair = tuple[int, int]
PAIRS: tuple[Pair, ...] = tuple(itertools.permutations(range(N_PEOPLE), 2))


@dataclass(frozen=True)
class Setting:
    """The people and objects of a problem.

    Attributes:
        language: of the text.
        names: of the people.
        things: `things[i]` is the object that `names[i]` holds at the start.
    """

    language: Language
    names: tuple[str, ...]
    things: tuple[str, ...]

    def key(self, pairs: list[Pair], asked: int) -> str:
        """Identifies a problem.

        Args:
            pairs: the people of each swap, as indices into `names`.
            asked: the person that the question is about, as an index into `names`.
        """
        return f"{FAMILY}:{self.language}:{self.names}{self.things}{pairs}{asked}"


def draw(rng: random.Random, steps: int, split: Split) -> Problem:
    """A random problem with `steps` swaps, from this split, in English or Chinese."""
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"swaps of {steps} steps do not exist: expected 1 to {MAX_STEPS}")
    while True:
        language = rng.choice(tuple(WORLDS))
        names = rng.sample(WORLDS[language].names, N_PEOPLE)
        things = rng.sample(WORLDS[language].objects, N_PEOPLE)
        setting = Setting(language, tuple(names), tuple(things))
        pairs = walk(rng, PAIRS, steps)
        asked = rng.randrange(N_PEOPLE)
        if split_of(setting.key(pairs, asked)) == split:
            return build(rng, setting, pairs, asked)


def build(rng: random.Random, setting: Setting, pairs: list[Pair], asked: int) -> Problem:
    """The problem with its thinking text, its answer, and a passage with the same swaps.

    The random state decides only which holders the passage states.
    """
    held = list(setting.things)
    question = passage = _initial_facts(setting)
    thought: list[Piece] = []
    for step, (first, second) in enumerate(pairs, start=1):
        thought += _objects_before(setting, held, (first, second))
        held[first], held[second] = held[second], held[first]
        thought += _objects_after(setting, held, (first, second))
        swap = _swap_sentence(setting, (first, second))
        question = [*question, *swap]
        passage = [*passage, *swap, *_notes(rng, setting, held, pairs[:step])]
    return Problem(
        family=FAMILY,
        language=setting.language,
        steps=len(pairs),
        key=setting.key(pairs, asked),
        asked=(*question, *_question(setting, asked)),
        thought=tuple(thought[:-1]),
        solved=tuple(_holders(setting, held, (asked,))),
        passage=(*passage, Piece("\n", "punctuation")),
    )


def _notes(rng: random.Random, setting: Setting, held: list[str], pairs: list[Pair]) -> list[Piece]:
    """The objects of some people after these swaps, as in `Ann ball, Eva cup. `, or nothing.

    A statement that answers a held-out problem is left out.
    """
    noted = [
        place
        for place in rng.sample(range(N_PEOPLE), N_PEOPLE)
        if rng.random() < NOTE_PROBABILITY and split_of(setting.key(pairs, place)) == "train"
    ]
    if not noted:
        return []
    pieces = _holders(setting, held, noted)
    known = [Piece(p.text, p.role, known=p.role == "object") for p in pieces]
    return [*known, _punctuation(". " if _uses_spaces(setting) else "。")]


def _initial_facts(setting: Setting) -> list[Piece]:
    """The first sentences, as in `Ann has the key. Ben has the ball. Eva has the cup. `"""
    held = zip(setting.names, setting.things, strict=True)
    return [
        piece
        for name, thing in held
        for piece in _has_sentence(setting, name, Piece(thing, "object"))
    ]


def _has_sentence(setting: Setting, name: str, thing: Piece) -> list[Piece]:
    """A sentence such as `Ann has the key. `"""
    words = (" has the", ". ") if _uses_spaces(setting) else ("拿着", "。")
    return [
        Piece(name, "name"),
        Piece(words[0], "verb"),
        _word(setting, thing),
        _punctuation(words[1]),
    ]


def _swap_sentence(setting: Setting, pair: Pair) -> list[Piece]:
    """A sentence such as `Ann and Ben swap. `"""
    first, second = (Piece(setting.names[i], "name") for i in pair)
    words = (" and", " swap", ". ") if _uses_spaces(setting) else ("和", "交换", "。")
    joined = [first, Piece(words[0], "word"), _word(setting, second)]
    return [*joined, Piece(words[1], "verb"), _punctuation(words[2])]


def _question(setting: Setting, asked: int) -> list[Piece]:
    """A question such as `What does Ann have?`"""
    name = _word(setting, Piece(setting.names[asked], "name"))
    if _uses_spaces(setting):
        return [Piece("What does", "question"), name, Piece(" have?", "question")]
    return [name, Piece("拿着什么？", "question")]


def _punctuation(text: str) -> Piece:
    return Piece(text, "punctuation")


def _word(setting: Setting, piece: Piece) -> Piece:
    """A word inside a sentence, after a space in a language that separates words by spaces."""
    return Piece(f" {piece.text}", piece.role, piece.known) if _uses_spaces(setting) else piece


def _objects_before(setting: Setting, held: list[str], pair: Pair) -> list[Piece]:
    """The objects of the two people before their swap, as in `Ann key, Ben ball: `"""
    return [*_holders(setting, held, pair), _punctuation(": " if _uses_spaces(setting) else "：")]


def _objects_after(setting: Setting, held: list[str], pair: Pair) -> list[Piece]:
    """The objects of all people after a swap, as in `Ann ball, Ben key, Eva cup`, and a newline.

    The two people who swapped come first.
    """
    others = [place for place in range(N_PEOPLE) if place not in pair]
    return [*_holders(setting, held, (*pair, *others)), _punctuation("\n")]


def _holders(setting: Setting, held: list[str], places: Sequence[int]) -> list[Piece]:
    pieces: list[Piece] = []
    for place in places:
        pieces += [_punctuation(", " if _uses_spaces(setting) else "，")] if pieces else []
        pieces.append(Piece(setting.names[place], "name"))
        pieces.append(_word(setting, Piece(held[place], "object")))
    return pieces


def _uses_spaces(setting: Setting) -> bool:
    return setting.language == "en"
