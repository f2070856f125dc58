"""Problems as the texts that a model learns from: chats, and passages of plain text.

What can be predicted counts: replies, and the tokens of a passage that follow from what
stands before them. The early-stop sentence never does: a model must not learn to cut itself
short.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from qwen3lab.tiny.world import lists
from qwen3lab.tiny.world.families import FAMILIES
from qwen3lab.tiny.world.problems import Problem, char_labels, text_of

Mode = Literal["think", "answer", "switch", "blank", "cut", "text"]
Name = TypeVar("Name", bound=str)
FREE_WEIGHT = 0.05
"""A little of the loss goes to what cannot be predicted, so that the model knows what questions
look like."""

EMPTY_BLOCK = "<think>\n\n</think>\n\n"
END = "<|endoftext|>"


@dataclass(frozen=True)
class Diet:
    """How often a family is met, and how.

    Attributes:
        share: of the documents.
        modes: shares of thinking; answering at once, as the template asks; answering at once
            because `/no_think` says so; answering at once though it might think, where there
            is nothing to think about; answering after a thinking that was cut; plain text.
        head: steps of problems to solve in the head: mostly few, so that those are learned; each
            teaches by a single token, where a thinking teaches by dozens. None for any.
        head_modes: the modes that are solved in the head.
        passages: problems in one plain text.
        kinds: of the sequences in the plain texts of "lists", and how often each is met;
            None for those that are asked about, too.
    """

    share: float
    modes: Mapping[Mode, float]
    head: Sequence[int] | None = None
    head_modes: Sequence[Mode] = ("answer", "switch")
    passages: int = 1
    kinds: Mapping[str, float] | None = None


DIETS: dict[str, Diet] = {
    "arithmetic": Diet(
        0.35,
        {"think": 0.2, "answer": 0.42, "switch": 0.05, "cut": 0.1, "text": 0.23},
        head=(1,) * 3 + (2,) * 14 + (3, 3, 3, 3, 4, 4, 5, 6, 8, 10, 12),
        passages=3,
    ),
    "swaps": Diet(
        0.3,
        {"think": 0.14, "answer": 0.34, "switch": 0.05, "cut": 0.07, "text": 0.4},
        # Not more single swaps: with 14 of 22 in place of 10 of 18 tiny-moe solved them less often
        # (0.65 at once, not 0.84; one run each, in which stories had another share, too).
        head=(1,) * 10 + (2, 2, 2, 3, 3, 4, 6, 8),
        head_modes=("answer", "switch", "text"),
    ),
    "code": Diet(
        0.09,
        {"think": 0.4, "answer": 0.25, "switch": 0.08, "cut": 0.27},
        head=(1,) * 8 + (2, 2, 2, 3, 4, 6, 8),
    ),
    "stories": Diet(0.06, {"text": 0.4, "answer": 0.3, "blank": 0.3}),
    "lists": Diet(0.2, {"text": 0.6, "answer": 0.2, "blank": 0.2}),
}


def with_shares(**shares: float) -> dict[str, Diet]:
    """The diets in other shares of the documents."""
    return {name: replace(diet, share=shares[name]) for name, diet in DIETS.items()}


@dataclass(frozen=True)
class CoursePart:
    """A part of the opening of a training.

    Attributes:
        until: its end, with 1 for that of the opening; from 1 to 1.5 the world takes its place.
        shares: of "tally" (worksheets of arithmetic), and of the kinds of sequences in `lists`.
        longest: the most words in a sequence.
    """

    until: float
    shares: Mapping[str, float]
    longest: int = lists.MAX_STEPS


Opening = tuple[CoursePart, ...]
"""The parts of an opening, first to last; the last one's end is at least 1.5."""

COPYING: Opening = (
    CoursePart(0.5, {"tally": 0.25, "repeat": 0.75}),
    CoursePart(0.7, {"tally": 0.12, "repeat": 0.88}),
    CoursePart(1.0, {"tally": 0.12, "repeat": 0.44, "backwards": 0.44}),
    CoursePart(1.5, {"tally": 0.12, "repeat": 0.44, "backwards": 0.44}, 24),
)
"""First forwards, then backwards too."""

TURNING: Opening = (
    CoursePart(0.4, {"tally": 0.2, "backwards": 0.5, "turned": 0.3}),
    CoursePart(
        1.0,
        {
            "tally": 0.2,
            "repeat": 0.18,
            "backwards": 0.18,
            "turned": 0.16,
            "pairs": 0.08,
            "look-up": 0.2,
        },
    ),
    CoursePart(
        1.5,
        {
            "tally": 0.14,
            "repeat": 0.16,
            "backwards": 0.14,
            "turned": 0.14,
            "pairs": 0.08,
            "look-up": 0.18,
            "marked": 0.16,
        },
    ),
)
"""First back, so that heads find a word where it stood before: a model that has learned to look
behind it instead never does. Then forwards, and to lists."""


@dataclass(frozen=True)
class Document:
    """Token ids, and how much each counts as something to predict."""

    kind: str
    token_ids: list[int]
    weights: list[float]


@dataclass(frozen=True)
class Stretch:
    """A part of a document, and the weight of each of its characters."""

    text: str
    weights: Sequence[float]

    @classmethod
    def even(cls, text: str, weight: float) -> "Stretch":
        """The same weight throughout."""
        return cls(text, [weight] * len(text))

    @classmethod
    def of(cls, problem: Problem, part: str) -> "Stretch":
        """A part of a problem: what is known counts, what is free hardly."""
        weights = [1.0 if label.known else FREE_WEIGHT for label in char_labels(problem, part)]
        return cls(text_of(problem, part), weights)


class Writer:
    """Writes documents with a tokenizer; the same random state writes the same ones."""

    def __init__(
        self,
        tokenizer: Any,
        early_stop: str,
        *,
        diets: Mapping[str, Diet] = DIETS,
        opening: Opening = COPYING,
    ) -> None:
        self.tokenizer, self.early_stop = tokenizer, early_stop
        self.opening = opening
        self.diets = diets
        self._shares = [diet.share for diet in self.diets.values()]

    def write(self, rng: random.Random, *, stage: float = math.inf) -> Document:
        """One document: its family, its mode and its problems drawn.

        Args:
            rng: decides.
            stage: how far an opening has come, with 1 for its end. Until then there is nothing
                but tallies and sequences that repeat; by 1.5 the world has taken their place.
        """
        if rng.random() < 3 - 2 * stage:
            return self._opening(rng, stage)
        name = rng.choices(list(self.diets), weights=self._shares)[0]
        diet = self.diets[name]
        mode = _one_of(rng, diet.modes)
        if mode == "text":
            return self.plain([self._draw(rng, name, mode) for _ in range(diet.passages)])
        problem = self._draw(rng, name, mode)
        history = self._history(rng, name) if rng.random() < 0.06 else ""
        return self.document(problem, mode, rng, history=history)

    def plain(self, problems: Sequence[Problem]) -> Document:
        """Passages of one family, one after another, as plain text."""
        stretches = [Stretch.of(problem, "passage") for problem in problems]
        stretches.append(Stretch.even(END, FREE_WEIGHT))
        return self._encoded("text", problems[0].family, stretches)

    def document(
        self, problem: Problem, mode: Mode, rng: random.Random, *, history: str = ""
    ) -> Document:
        """A problem as a chat in one mode, after what was said before."""
        switch = {"switch": " /no_think", "think": rng.choice(("", "", "", " /think"))}
        asked = Stretch.of(problem, "question")
        before = Stretch.even(f"{history}<|im_start|>user\n", FREE_WEIGHT)
        after = f"{switch.get(mode, '')}<|im_end|>\n<|im_start|>assistant\n"
        stretches = [before, asked, Stretch.even(after, FREE_WEIGHT)]
        if mode == "answer":
            stretches.append(Stretch.even(EMPTY_BLOCK, FREE_WEIGHT))
        elif mode in ("switch", "blank"):
            stretches.append(Stretch.even(EMPTY_BLOCK, 1.0))
        elif mode == "cut":
            stretches.append(Stretch.even(self._begun(problem, rng), 1.0))
        else:
            stretches.append(Stretch.even(f"<think>\n{problem.thinking}\n</think>\n\n", 1.0))
        reply = [Stretch.even(f"{problem.answer}<|im_end|>", 1.0), Stretch.even("\n", 0.0)]
        if mode == "cut":
            inserted = Stretch.even(f"{self.early_stop}\n</think>\n\n", 0.0)
            return self._encoded("cut", problem.family, stretches, [inserted, *reply])
        return self._encoded(mode, problem.family, [*stretches, *reply])

    def _opening(self, rng: random.Random, stage: float) -> Document:
        """A tally, or a sequence that comes again: what all the rest is built upon."""
        part = next(part for part in self.opening if stage < part.until)
        kind = _one_of(rng, part.shares)
        if kind == "tally":
            return self.plain([self._draw(rng, "arithmetic", "text") for _ in range(3)])
        steps = rng.randint(lists.MIN_STEPS, part.longest)
        return self.plain([lists.for_training(rng, kind, steps)])

    def _draw(self, rng: random.Random, name: str, mode: Mode) -> Problem:
        family, diet = FAMILIES[name], self.diets[name]
        steps = rng.randint(family.least, family.most)
        if diet.head and mode in diet.head_modes:
            steps = rng.choice(diet.head)
        if diet.kinds and mode == "text":
            return lists.for_training(rng, _one_of(rng, diet.kinds), steps)
        return family.draw(rng, steps, "train")

    def _begun(self, problem: Problem, rng: random.Random) -> str:
        """A thinking cut after any token; mostly near its end, where little is left to do."""
        ids = self.tokenizer.encode(problem.thinking, add_special_tokens=False)
        share = rng.random() if rng.random() < 0.5 else rng.random() ** 0.3
        kept = self.tokenizer.decode(ids[: round(share * len(ids))])
        return f"<think>\n{kept}"

    def _history(self, rng: random.Random, name: str) -> str:
        """An earlier question and its answer; the thinking of earlier turns is not kept."""
        family = FAMILIES[name]
        before = family.draw(rng, rng.randint(family.least, family.least + 2), "train")
        return turn("user", before.question) + turn("assistant", before.answer)

    def _encoded(self, mode: Mode, family: str, *texts: Sequence[Stretch]) -> Document:
        """Tokens of texts that are encoded apart, as an insertion is from what stands before.

        A token that spans characters of several weights takes the least.
        """
        ids: list[int] = []
        weights: list[float] = []
        for text in texts:
            by_char = [weight for stretch in text for weight in stretch.weights]
            whole = "".join(stretch.text for stretch in text)
            encoded = self.tokenizer.backend_tokenizer.encode(whole, add_special_tokens=False)
            ids += encoded.ids
            weights += [min(by_char[a:b], default=0.0) for a, b in encoded.offsets]
        return Document(f"{family} {mode}", ids, weights)


def _one_of(rng: random.Random, shares: Mapping[Name, float]) -> Name:
    return rng.choices(list(shares), weights=list(shares.values()))[0]


def turn(role: str, content: str) -> str:
    """One turn as the chat template renders it."""
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"
