"""Short stories about two people and their animals, in English and Chinese, from one grammar.

The food of an animal is a fact that is the same in every story and language. Later sentences name
an animal by its colour, so a model needs the first sentences to know its kind, owner and place.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from qwen3lab.tiny.world.problems import Piece, Problem, Split, split_of
from qwen3lab.tiny.world.settings import WORLDS, Language, World

FAMILY = "stories"
MAX_STEPS = 8
EVENTS = ("eats", "sleeps", "goes", "is")
QUESTIONS = ("who", "eats", "where")


@dataclass
class Pet:
    """An animal of a story, with the facts that the story has stated about it."""

    owner: str
    colour: str
    kind: str
    food: str
    bed: str | None = None
    place: str | None = None


@dataclass
class Story:
    """A story that is being written.

    Attributes:
        language: of the text.
        world: the vocabulary.
        rng: source of all random choices.
        pieces: the text so far.
    """

    language: Language
    world: World
    rng: random.Random
    pieces: list[Piece] = field(default_factory=list)

    def say(self, *parts: str | Piece) -> None:
        """Append a sentence. A plain string is a word that the text before it determines."""
        self.pieces += [
            Piece(part, "word", known=True) if isinstance(part, str) else part for part in parts
        ]


def draw(rng: random.Random, steps: int, split: Split) -> Problem:
    """A random story with `steps` events and a final question, from this split."""
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"stories of {steps} steps do not exist: expected 1 to {MAX_STEPS}")
    while True:
        language: Language = rng.choice(tuple(WORLDS))
        problem = _write_story(Story(language, WORLDS[language], rng), steps)
        if split_of(problem.key) == split:
            return problem


def _write_story(story: Story, steps: int) -> Problem:
    pets = _pets(story)
    for place, pet in enumerate(pets):
        _introduce(story, pet, first=place == 0)
    for _ in range(steps):
        _add_event(story, pets)
    passage = tuple(story.pieces)
    question, answer = _question(story, pets)
    text = "".join(piece.text for piece in (*passage, *question))
    key = f"{FAMILY}:{story.language}:{text}"
    return Problem(
        FAMILY, story.language, steps, key, (*passage, *question), (), (answer,), passage
    )


def _pets(story: Story) -> list[Pet]:
    """Two people, each with an animal; the animals differ in colour and kind."""
    rng, world = story.rng, story.world
    owners, colours = rng.sample(world.names, 2), rng.sample(world.colours, 2)
    kinds = rng.sample(range(len(world.animals)), 2)
    rows = zip(owners, colours, kinds, strict=True)
    return [Pet(o, c, world.animals[k], world.foods[k]) for o, c, k in rows]


def _introduce(story: Story, pet: Pet, *, first: bool) -> None:
    """Append a sentence such as `Ann has a red cat.`"""
    if story.language == "en":
        space = "" if first else " "
        story.say(
            Piece(f"{space}{pet.owner}", "name"),
            Piece(" has a", "verb", known=True),
            Piece(f" {pet.colour}", "colour"),
            Piece(f" {pet.kind}", "animal"),
            Piece(".", "punctuation", known=True),
        )
    else:
        story.say(
            Piece(pet.owner, "name"),
            Piece("有一只", "verb", known=True),
            Piece(pet.colour, "colour"),
            Piece(pet.kind, "animal"),
            Piece("。", "punctuation", known=True),
        )


def _add_event(story: Story, pets: Sequence[Pet]) -> None:
    pet, event = story.rng.choice(pets), story.rng.choice(EVENTS)
    if event == "is" and pet.place is None:
        event = "goes"
    tell = {"eats": _eats, "sleeps": _sleeps, "goes": _goes, "is": _is}[event]
    tell(story, pet)


def _animal_phrase(story: Story, pet: Pet) -> list[Piece]:
    """The words for an animal: a random colour, and the kind that the colour determines."""
    space = " " if story.language == "en" else ""
    return [
        Piece(f"{space}{pet.colour}", "colour"),
        Piece(f"{space}{pet.kind}", "animal", known=True),
    ]


def _full_stop(story: Story) -> Piece:
    return Piece("." if story.language == "en" else "。", "punctuation", known=True)


def _eats(story: Story, pet: Pet) -> None:
    """Append a sentence such as `Every morning the red cat eats fish.`"""
    if story.language == "en":
        opening = Piece(" Every morning the", "opening")
        verb, food = Piece(" eats", "verb", known=True), f" {pet.food}"
    else:
        opening = Piece("每天早上", "opening")
        verb, food = Piece("吃", "verb", known=True), pet.food
    story.say(
        opening,
        *_animal_phrase(story, pet),
        verb,
        Piece(food, "food", known=True),
        _full_stop(story),
    )


def _sleeps(story: Story, pet: Pet) -> None:
    """Append a sentence such as `At night the red cat sleeps in the barn.`

    The first such sentence chooses the place at random; later ones repeat it.
    """
    known = pet.bed is not None
    pet.bed = pet.bed or story.rng.choice(story.world.places)
    if story.language == "en":
        opening = Piece(" At night the", "opening")
        parts = [
            Piece(" sleeps", "verb", known=True),
            Piece(" in the", "word", known=True),
            Piece(f" {pet.bed}", "place", known=known),
        ]
    else:
        opening = Piece("晚上", "opening")
        parts = [
            Piece("睡在", "verb", known=True),
            Piece(pet.bed, "place", known=known),
        ]
    story.say(opening, *_animal_phrase(story, pet), *parts, _full_stop(story))


def _goes(story: Story, pet: Pet) -> None:
    """Append a sentence such as `Then Ann takes the red cat to the river.`

    The owner and the place are random; the owner determines the animal.
    """
    pet.place = story.rng.choice(story.world.places)
    if story.language == "en":
        parts = [
            Piece(" Then", "opening"),
            Piece(f" {pet.owner}", "name"),
            Piece(" takes the", "verb", known=True),
            Piece(f" {pet.colour}", "colour", known=True),
            Piece(f" {pet.kind}", "animal", known=True),
            Piece(" to the", "word", known=True),
            Piece(f" {pet.place}", "place"),
        ]
    else:
        parts = [
            Piece("然后", "opening"),
            Piece(pet.owner, "name"),
            Piece("带", "verb", known=True),
            Piece(pet.colour, "colour", known=True),
            Piece(pet.kind, "animal", known=True),
            Piece("去", "word", known=True),
            Piece(pet.place, "place"),
        ]
    story.say(*parts, _full_stop(story))


def _is(story: Story, pet: Pet) -> None:
    """Append a sentence such as `Now the red cat is in the river.`

    The place is the one that the owner took the animal to last.
    """
    assert pet.place is not None, "the story has not taken this animal to a place yet"
    if story.language == "en":
        opening, verb = Piece(" Now the", "opening"), Piece(" is in the", "verb", known=True)
        where = f" {pet.place}"
    else:
        opening, verb, where = Piece("现在", "opening"), Piece("在", "verb", known=True), pet.place
    story.say(
        opening,
        *_animal_phrase(story, pet),
        verb,
        Piece(where, "place", known=True),
        _full_stop(story),
    )


def _question(story: Story, pets: Sequence[Pet]) -> tuple[list[Piece], Piece]:
    """A question about a random animal, and its answer."""
    pet = story.rng.choice(pets)
    kinds = QUESTIONS if pet.place else QUESTIONS[:2]
    kind = story.rng.choice(kinds)
    if story.language == "en":
        named = [Piece(f" {pet.colour}", "colour"), Piece(f" {pet.kind}", "animal", known=True)]
        asked = {
            "who": [Piece(" Who has the", "question"), *named],
            "eats": [Piece(" What does the", "question"), *named, Piece(" eat", "verb", True)],
            "where": [Piece(" Where is the", "question"), *named],
        }[kind]
        mark = "?"
    else:
        named = [Piece(pet.colour, "colour"), Piece(pet.kind, "animal", known=True)]
        asked = {
            "who": [Piece("谁有", "question"), *named],
            "eats": [*named, Piece("吃什么", "question")],
            "where": [*named, Piece("在哪", "question")],
        }[kind]
        mark = "？"
    answers = {"who": (pet.owner, "name"), "eats": (pet.food, "food")}
    answer, role = answers.get(kind, (pet.place or "", "place"))
    return [*asked, Piece(mark, "punctuation")], Piece(answer, role)
