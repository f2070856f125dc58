"""Who holds what: three people, three objects, and a row of swaps.

A swap permutes the objects, so no step can be skipped. The thinking names each pair that
swaps and then who holds what.
"""

import random

from qwen3lab.tiny.problems import Piece, Problem, Split, split_of
from qwen3lab.tiny.world import WORLDS, Language

FAMILY = "swaps"
MAX_STEPS = 8
N_PEOPLE = 3

Pair = tuple[int, int]


def draw(rng: random.Random, steps: int, split: Split) -> Problem:
    """A problem of so many swaps from a split, in English or in Chinese."""
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"swaps of {steps} steps do not exist: expected 1 to {MAX_STEPS}")
    while True:
        language = rng.choice(tuple(WORLDS))
        world = WORLDS[language]
        people = rng.sample(range(len(world.names)), N_PEOPLE)
        objects = rng.sample(range(len(world.objects)), N_PEOPLE)
        pairs = [_pair(rng) for _ in range(steps)]
        asked, by_person = rng.randrange(N_PEOPLE), rng.random() < 0.5
        key = f"{FAMILY}:{language}:{people}{objects}{pairs}{asked}{by_person}"
        if split_of(key) == split:
            return build(language, people, objects, pairs, asked, by_person, key)


def _pair(rng: random.Random) -> Pair:
    first, second = rng.sample(range(N_PEOPLE), 2)
    return first, second


def build(
    language: Language,
    people: list[int],
    objects: list[int],
    pairs: list[Pair],
    asked: int,
    by_person: bool,
    key: str,
) -> Problem:
    """The problem with its wording, its thinking and its answer.

    Args:
        language: of the text.
        people: who takes part, by place in the world's names.
        objects: what each holds at first, by place in the world's objects.
        pairs: who swaps with whom, by place in `people`.
        asked: the person, or the holder's first object, that is asked about.
        by_person: ask what a person has; else who has an object.
        key: of the problem.
    """
    world = WORLDS[language]
    names = [world.names[i] for i in people]
    held = [world.objects[i] for i in objects]
    thing = held[asked]
    write = _english if language == "en" else _chinese
    question = write(names, held, pairs, names[asked] if by_person else thing, by_person)
    thought: list[Piece] = []
    for first, second in pairs:
        held[first], held[second] = held[second], held[first]
        thought += _line(names, held, (first, second), language)
    answer = held[asked] if by_person else names[held.index(thing)]
    solved = (Piece(answer, "object" if by_person else "name"),)
    return Problem(FAMILY, language, len(pairs), key, question, tuple(thought[:-1]), solved)


def _line(names: list[str], held: list[str], pair: Pair, language: Language) -> list[Piece]:
    """As in `Ann Ben: Ann key, Ben ball, Eva cup`."""
    blank, comma, colon = (" ", ", ", ": ") if language == "en" else ("", "，", "：")
    a, b = (names[i] for i in pair)
    pieces = [Piece(a, "name"), *_mark(blank or "和"), Piece(b, "name"), *_mark(colon)]
    for place, (name, thing) in enumerate(zip(names, held, strict=True)):
        pieces += _mark(comma) if place else []
        pieces += [Piece(name, "name"), *_mark(blank), Piece(thing, "object")]
    return [*pieces, *_mark("\n")]


def _mark(text: str) -> list[Piece]:
    return [Piece(text, "punctuation")] if text else []


def _english(
    names: list[str], held: list[str], pairs: list[Pair], asked: str, by_person: bool
) -> tuple[Piece, ...]:
    pieces = []
    for name, thing in zip(names, held, strict=True):
        pieces += [Piece(name, "name"), Piece(" has the", "verb"), Piece(f" {thing}", "object")]
        pieces.append(Piece(". ", "punctuation"))
    for a, b in pairs:
        pieces += [Piece(names[a], "name"), Piece(" and", "word"), Piece(f" {names[b]}", "name")]
        pieces += [Piece(" swap", "verb"), Piece(". ", "punctuation")]
    if by_person:
        pieces += [Piece("What does", "question"), Piece(f" {asked}", "name")]
        pieces += [Piece(" have", "verb")]
    else:
        pieces += [Piece("Who has the", "question"), Piece(f" {asked}", "object")]
    return (*pieces, Piece("?", "punctuation"))


def _chinese(
    names: list[str], held: list[str], pairs: list[Pair], asked: str, by_person: bool
) -> tuple[Piece, ...]:
    pieces = []
    for name, thing in zip(names, held, strict=True):
        pieces += [Piece(name, "name"), Piece("拿着", "verb"), Piece(thing, "object")]
        pieces.append(Piece("。", "punctuation"))
    for a, b in pairs:
        pieces += [Piece(names[a], "name"), Piece("和", "word"), Piece(names[b], "name")]
        pieces += [Piece("交换", "verb"), Piece("。", "punctuation")]
    if by_person:
        pieces += [Piece(asked, "name"), Piece("拿着什么", "question")]
    else:
        pieces += [Piece("谁拿着", "question"), Piece(asked, "object")]
    return (*pieces, Piece("？", "punctuation"))
