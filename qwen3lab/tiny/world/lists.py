"""In-context tasks: look up a value in a list, repeat a sequence, reverse a sequence.

All lists and sequences are random, so there are no facts to memorise: each answer is in the text.
"""

import random

from qwen3lab.tiny.world.problems import Piece, Problem, Split, split_of
from qwen3lab.tiny.world.settings import WORLDS, Language

FAMILY = "lists"
MIN_STEPS, MAX_STEPS = 2, 12
KINDS = ("look-up", "repeat", "backwards")
TRAINING_ONLY_KINDS = ("pairs", "turned", "marked", "facts")
"""Kinds that occur in training texts but not in questions."""

KEY_MARKS: dict[Language, tuple[str, ...]] = {"en": (" ", "=", ":"), "zh": (" ", "=", "：")}
"""Marks that may follow a word in a "marked" list."""

SYMBOLS = tuple("0123456789abcdehkmnfg")


def draw(rng: random.Random, steps: int, split: Split) -> Problem:
    """A random problem of one of the `KINDS`, with `steps` entries, from this split."""
    if not MIN_STEPS <= steps <= MAX_STEPS:
        raise ValueError(
            f"lists of {steps} entries do not exist: expected {MIN_STEPS} to {MAX_STEPS}"
        )
    while True:
        problem = of_kind(rng, rng.choice(KINDS), steps)
        if split_of(problem.key) == split:
            return problem


def for_training(rng: random.Random, kind: str, steps: int) -> Problem:
    """A problem of the training split, of one of the `KINDS` or `TRAINING_ONLY_KINDS`."""
    while True:
        problem = of_kind(rng, kind, steps)
        if split_of(problem.key) == "train":
            return problem


def of_kind(rng: random.Random, kind: str, steps: int) -> Problem:
    """A random problem of one of the `KINDS` or `TRAINING_ONLY_KINDS`, in a random language."""
    language: Language = rng.choice(tuple(WORLDS))
    if kind == "look-up":
        return look_up(rng, steps, language)
    if kind == "marked":
        return look_up_marked(rng, steps, language)
    if kind == "facts":
        return owners(rng, steps, language)
    if kind in TRAINING_ONLY_KINDS:
        return pair_up(rng, steps, language, turned=kind == "turned")
    return repeat(rng, steps, language, back=kind == "backwards")


def look_up(rng: random.Random, steps: int, language: Language) -> Problem:
    """A look-up such as `ball 7, key 3. key?`; the passage repeats the list in another order."""
    words = rng.sample(pool(language), steps)
    values = [str(rng.randrange(10)) for _ in words]
    space, comma, stop, mark = _signs(language)
    entries: list[Piece] = []
    for place, (word, value) in enumerate(zip(words, values, strict=True)):
        entries += [Piece(comma, "punctuation")] if place else []
        entries += [Piece(word, "key"), Piece(f"{space}{value}", "value")]
    entries.append(Piece(stop, "punctuation"))
    again: list[Piece] = []
    for place, at in enumerate(rng.sample(range(steps), steps)):
        again += [Piece(comma, "punctuation", True)] if place else []
        again += [Piece(words[at], "key"), Piece(f"{space}{values[at]}", "value", True)]
    wanted = rng.randrange(steps)
    asked = (*entries, Piece(words[wanted], "key"), Piece(mark, "punctuation"))
    solved = (Piece(values[wanted], "value"),)
    return _problem("look-up", language, steps, asked, solved, (*entries, *again))


def look_up_marked(rng: random.Random, steps: int, language: Language) -> Problem:
    """A list such as `ball 7, ball=3, key:3`: each word has two values with different marks.

    Word and mark together determine the value, so the model can only look it up at the mark.
    """
    words = rng.sample(pool(language), (steps + 1) // 2)
    keys = [(word, mark) for word in words for mark in rng.sample(KEY_MARKS[language], 2)]
    values = {key: str(rng.randrange(10)) for key in keys}
    _, comma, stop, mark = _signs(language)
    passes: list[list[Piece]] = []
    for known in (False, True):
        entries: list[Piece] = []
        for place, key in enumerate(rng.sample(keys, len(keys))):
            entries += [Piece(comma, "punctuation", known)] if place else []
            entries += [Piece("".join(key), "key"), Piece(values[key], "value", known)]
        passes.append(entries)
    first, again = passes
    first.append(Piece(stop, "punctuation"))
    wanted = rng.choice(keys)
    asked = (*first, Piece("".join(wanted), "key"), Piece(mark, "punctuation"))
    solved = (Piece(values[wanted], "value"),)
    return _problem("marked", language, steps, asked, solved, (*first, *again))


def owners(rng: random.Random, steps: int, language: Language) -> Problem:
    """Who has which object, as swaps begin, then once more in another order and in short.

    In `Ann has the key. Ben has the ball. Ben ball, Ann key. ` an English object stands three
    tokens after its owner, further than any value in a list.
    """
    world = WORLDS[language]
    n = min(steps, len(world.names), len(world.objects))
    names, things = rng.sample(world.names, n), rng.sample(world.objects, n)
    space, comma, stop, mark = _signs(language)
    verb = " has the" if language == "en" else "拿着"
    told: list[Piece] = []
    for name, thing in zip(names, things, strict=True):
        told += [Piece(name, "name"), Piece(verb, "verb"), Piece(f"{space}{thing}", "object")]
        told.append(Piece(stop, "punctuation"))
    again: list[Piece] = []
    for place, at in enumerate(rng.sample(range(n), n)):
        again += [Piece(comma, "punctuation", True)] if place else []
        again += [Piece(names[at], "name"), Piece(f"{space}{things[at]}", "object", True)]
    again.append(Piece(stop, "punctuation"))
    wanted = rng.randrange(n)
    solved = (Piece(things[wanted], "object"),)
    asked = (*told, Piece(names[wanted], "name"), Piece(mark, "punctuation"))
    return _problem("facts", language, steps, asked, solved, (*told, *again))


def repeat(rng: random.Random, steps: int, language: Language, *, back: bool = False) -> Problem:
    """A repetition such as `tree king moon. Again?`; the passage has the sequence 2 or 3 times.

    All words are different, so each word of a repetition is determined by the one before it. The
    first word of a repetition is not, because nothing marks the end of the sequence.

    Args:
        rng: source of all random choices.
        steps: number of words in the sequence.
        language: of the words.
        back: repeat in reverse order, as in `tree king moon. Backwards?`.
    """
    words = rng.sample(everything(language), steps)
    space, _, stop, mark = _signs(language)
    sequence = _sequence(words, space)
    request = Piece(_repeat_request(language, back), "question")
    asked = (*sequence, Piece(stop, "punctuation"), request)
    asked = (*asked, Piece(mark, "punctuation"))
    first = [Piece(f"{space}{word}", "word") for word in words]
    order = first[::-1] if back else first
    later = [Piece(piece.text, "word", place > 0) for place, piece in enumerate(order)]
    once_more = not back and rng.random() < 0.5
    passage = (*first, *later, *(later if once_more else ()))
    solved = _sequence(words[::-1], space) if back else sequence
    kind = "backwards" if back else "repeat"
    return _problem(kind, language, steps, asked, solved, passage)


def pair_up(rng: random.Random, steps: int, language: Language, *, turned: bool) -> Problem:
    """Pairs of words, repeated in another order, as in `tree king moon sun moon sun tree king`.

    The distance between the two occurrences of a pair varies, so a model must attend by the word
    and not by the position.

    Args:
        rng: source of all random choices.
        steps: number of pairs.
        language: of the words.
        turned: repeat each pair with its second word first, as in `tree king king tree`.
    """
    words = rng.sample(everything(language), 2 * steps)
    space, _, stop, mark = _signs(language)
    pairs = list(zip(words[::2], words[1::2], strict=True))
    again = [pair[::-1] if turned else pair for pair in rng.sample(pairs, steps)]
    first = [Piece(f"{space}{word}", "word") for word in words]
    later = [
        Piece(f"{space}{word}", "word", place == 1)
        for pair in again
        for place, word in enumerate(pair)
    ]
    given, wanted = again[0]
    asked = (*_sequence(words, space), Piece(stop, "punctuation"))
    asked = (*asked, Piece(given, "word"), Piece(mark, "punctuation"))
    kind = "turned" if turned else "pairs"
    solved = (Piece(wanted, "word"),)
    return _problem(kind, language, steps, asked, solved, (*first, *later))


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


def _sequence(words: list[str], space: str) -> tuple[Piece, ...]:
    return tuple(Piece(f"{space if n else ''}{word}", "word") for n, word in enumerate(words))


def pool(language: Language) -> list[str]:
    """The words of the lists; each is a single token."""
    world = WORLDS[language]
    return sorted({*world.words, *world.objects, *world.animals})


def everything(language: Language) -> list[str]:
    """All words and symbols of the families: a model learns to copy each of them separately."""
    return sorted({*WORLDS[language].vocabulary, *SYMBOLS})


def _signs(language: Language) -> tuple[str, str, str, str]:
    """The space, comma, full stop and question mark of a language."""
    return (" ", ", ", ". ", "?") if language == "en" else ("", "，", "。", "？")


def _repeat_request(language: Language, back: bool) -> str:
    if back:
        return "Backwards" if language == "en" else "倒着"
    return "Again" if language == "en" else "再说"
