"""Who holds what: three people, three objects, and a row of swaps.

A swap permutes the objects, so no step can be skipped. The thinking notes what the two who swap
hold, and then who holds what; the answer is such a note too. The plain text of the family tells
of swaps, and notes now and then who holds something.
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
NOTED = 0.6

Pair = tuple[int, int]
PAIRS: tuple[Pair, ...] = tuple(itertools.permutations(range(N_PEOPLE), 2))


@dataclass(frozen=True)
class Setting:
    """Who takes part, with what, and how it is said.

    Attributes:
        language: of the text.
        names: of the people.
        things: what each holds at first.
    """

    language: Language
    names: tuple[str, ...]
    things: tuple[str, ...]

    def key(self, pairs: list[Pair], asked: int) -> str:
        """Tells a problem from all others.

        Args:
            pairs: who swaps with whom, by place in `names`.
            asked: the person that is asked about, likewise.
        """
        return f"{FAMILY}:{self.language}:{self.names}{self.things}{pairs}{asked}"


def draw(rng: random.Random, steps: int, split: Split) -> Problem:
    """A problem of so many swaps from a split, in English or in Chinese."""
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
    """The problem with its thinking, its answer, and a passage of the same swaps.

    The random state decides what the passage notes; the rest is as in `Setting.key`.
    """
    held = list(setting.things)
    asking = told = _facts(setting)
    thought: list[Piece] = []
    for step, (first, second) in enumerate(pairs, start=1):
        thought += _before(setting, held, (first, second))
        held[first], held[second] = held[second], held[first]
        thought += _after(setting, held, (first, second))
        asking = [*asking, *_swap(setting, (first, second))]
        told = [*told, *_swap(setting, (first, second)), *_notes(rng, setting, held, pairs[:step])]
    return Problem(
        family=FAMILY,
        language=setting.language,
        steps=len(pairs),
        key=setting.key(pairs, asked),
        asked=(*asking, *_question(setting, asked)),
        thought=tuple(thought[:-1]),
        solved=tuple(_holders(setting, held, (asked,))),
        passage=(*told, Piece("\n", "punctuation")),
    )


def _notes(rng: random.Random, setting: Setting, held: list[str], pairs: list[Pair]) -> list[Piece]:
    """Who holds something after these swaps, as in `Ann ball, Eva cup. `, or nothing.

    Nothing that answers a held-out problem is ever noted.
    """
    noted = [
        place
        for place in rng.sample(range(N_PEOPLE), N_PEOPLE)
        if rng.random() < NOTED and split_of(setting.key(pairs, place)) == "train"
    ]
    if not noted:
        return []
    pieces = _holders(setting, held, noted)
    known = [Piece(p.text, p.role, known=p.role == "object") for p in pieces]
    return [*known, _stop(". " if _spaced(setting) else "。")]


def _facts(setting: Setting) -> list[Piece]:
    """As in `Ann has the key. Ben has the ball. Eva has the cup. `"""
    held = zip(setting.names, setting.things, strict=True)
    return [piece for name, thing in held for piece in _has(setting, name, Piece(thing, "object"))]


def _has(setting: Setting, name: str, thing: Piece) -> list[Piece]:
    """As in `Ann has the key. `"""
    words = (" has the", ". ") if _spaced(setting) else ("拿着", "。")
    return [Piece(name, "name"), Piece(words[0], "verb"), _word(setting, thing), _stop(words[1])]


def _swap(setting: Setting, pair: Pair) -> list[Piece]:
    """As in `Ann and Ben swap. `"""
    first, second = (Piece(setting.names[i], "name") for i in pair)
    words = (" and", " swap", ". ") if _spaced(setting) else ("和", "交换", "。")
    joined = [first, Piece(words[0], "word"), _word(setting, second)]
    return [*joined, Piece(words[1], "verb"), _stop(words[2])]


def _question(setting: Setting, asked: int) -> list[Piece]:
    """As in `What does Ann have?`"""
    name = _word(setting, Piece(setting.names[asked], "name"))
    if _spaced(setting):
        return [Piece("What does", "question"), name, Piece(" have?", "question")]
    return [name, Piece("拿着什么？", "question")]


def _stop(text: str) -> Piece:
    return Piece(text, "punctuation")


def _word(setting: Setting, piece: Piece) -> Piece:
    """A word inside a sentence, with the blank before it that its language wants."""
    return Piece(f" {piece.text}", piece.role, piece.known) if _spaced(setting) else piece


def _before(setting: Setting, held: list[str], pair: Pair) -> list[Piece]:
    """What the two hold who swap, as in `Ann key, Ben ball: `"""
    return [*_holders(setting, held, pair), _stop(": " if _spaced(setting) else "：")]


def _after(setting: Setting, held: list[str], pair: Pair) -> list[Piece]:
    """Who holds what, as in `Ann ball, Ben key, Eva cup`, and the line's end; the two first."""
    others = [place for place in range(N_PEOPLE) if place not in pair]
    return [*_holders(setting, held, (*pair, *others)), _stop("\n")]


def _holders(setting: Setting, held: list[str], places: Sequence[int]) -> list[Piece]:
    pieces: list[Piece] = []
    for place in places:
        pieces += [_stop(", " if _spaced(setting) else "，")] if pieces else []
        pieces.append(Piece(setting.names[place], "name"))
        pieces.append(_word(setting, Piece(held[place], "object")))
    return pieces


def _spaced(setting: Setting) -> bool:
    return setting.language == "en"
