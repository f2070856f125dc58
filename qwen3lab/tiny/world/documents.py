"""Training documents made from problems: chats, and passages of plain text.

Each token has a loss weight. Predictable tokens have weight 1: replies, and the tokens of a
passage that are determined by the text before them. Answers without thinking have a larger one.
The early-stop sentence has weight 0, so that the model does not learn to write it. Mistakes in a
thinking have a small weight.

A tenth of the documents are long: several chats in a row, each with its own mode and its own
thinking.
"""

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from qwen3lab.tiny.world import arithmetic, hints, lists
from qwen3lab.tiny.world.families import FAMILIES
from qwen3lab.tiny.world.first_questions import RESERVED_QUESTIONS, normalised
from qwen3lab.tiny.world.problems import Problem, char_labels, text_of
from qwen3lab.tiny.world.wrong_turns import (
    WAIT,
    with_check,
    with_wrong_equations,
    with_wrong_turn,
)

Mode = Literal["think", "answer", "switch", "blank", "cut", "text"]
Name = TypeVar("Name", bound=str)
UNPREDICTABLE_TOKEN_WEIGHT = 0.05
"""Loss weight of unpredictable tokens: small, but enough that the model learns what questions
look like."""

HISTORY_PROBABILITY = 0.06
"""Probability that a chat has an earlier question and answer."""

LONG_PROBABILITY = 0.1
"""Probability that a document is a row of chats."""

LONG_TOKENS = (150, 600)
"""Smallest and largest number of tokens that a long document is filled up to."""

HINT_PROBABILITY = 0.15
"""Probability that an arithmetic problem in a chat has a hint."""

CHECK_PROBABILITY = 0.02
"""Probability that a thinking of another family checks its last line."""

QUIZ_PROBABILITY = 0.5
"""Probability that a plain text of arithmetic has questions with answers instead of equations."""

EMPTY_THINKING_BLOCK = "<think>\n\n</think>\n\n"
END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Diet:
    """The share of a task family in the training data, and the mix of its documents.

    Attributes:
        share: fraction of the documents.
        modes: fraction of each mode. "think": reply with thinking. "answer": direct answer after
            the empty thinking block of the chat template. "switch": direct answer, requested by
            `/no_think`. "blank": direct answer of a family without thinking; the model writes the
            empty block itself. "cut": answer after truncated thinking and the early-stop
            sentence. "text": plain text.
        head: numbers of steps of the problems that are answered without thinking; one is chosen
            at random. Short problems are more frequent, because such a document trains a single
            answer token, while one with thinking trains dozens. None: any number of steps.
        steps: numbers of steps of the problems in the other modes; one is chosen at random. None:
            any number of steps, all equally often.
        head_modes: the modes whose number of steps comes from `head`.
        passages: number of problems in one plain text.
        kinds: kinds of sequences in the plain texts of "lists", with their fractions. None: the
            kinds of the family's questions.
        direct_weight: loss weight of an answer without thinking, or after a hint. It has few
            tokens, and other answers after thinking only copy.
        text_weight: loss weight of the predictable tokens of a plain text.
        english: fraction of English problems, in families that are drawn in both languages equally
            often.
        wrong_turns: probability that a thinking of arithmetic has a wrong turn.
        turn_weight: loss weight of the line break and "Wait" after a wrong step.
    """

    share: float
    modes: Mapping[Mode, float]
    head: Sequence[int] | None = None
    head_modes: Sequence[Mode] = ("answer", "switch")
    steps: Sequence[int] | None = None
    passages: int = 1
    kinds: Mapping[str, float] | None = None
    direct_weight: float = 4.0
    text_weight: float = 1.0
    english: float = 0.5
    wrong_turns: float = 0.08
    turn_weight: float = 1.0


DIETS: dict[str, Diet] = {
    "arithmetic": Diet(
        0.37,
        {"think": 0.3, "answer": 0.32, "switch": 0.04, "cut": 0.12, "text": 0.22},
        head=(1,) * 15 + (2,) * 6 + (3, 3, 3, 4, 4, 5, 6, 8, 10),
        # Short ones are rare otherwise, and then taken for questions from outside: of one step
        # with thinking, 0.80 were right instead of 0.92, once the border was drawn more often.
        steps=(1,) * 5 + (2,) * 3 + (3, 3, 4, 5, 6, 7, 8, 9, 10),
        passages=3,
        wrong_turns=0.12,
        turn_weight=3.0,
    ),
    "swaps": Diet(
        0.24,
        {"think": 0.14, "answer": 0.34, "switch": 0.05, "cut": 0.07, "text": 0.4},
        # More single swaps did not help: with 14 of 22 instead of 10 of 18, tiny-moe answered them
        # less often without thinking (0.65 instead of 0.84; one run each, and the share of
        # stories differed, too).
        head=(1,) * 10 + (2, 2, 2, 3, 3, 4, 6, 8),
        head_modes=("answer", "switch", "text"),
    ),
    "code": Diet(
        0.12,
        {"think": 0.45, "answer": 0.25, "switch": 0.05, "cut": 0.25},
        head=(1,) * 8 + (2, 2, 2, 3, 4, 6, 8),
    ),
    "stories": Diet(0.08, {"text": 0.4, "answer": 0.3, "blank": 0.3}),
    "lists": Diet(0.12, {"text": 0.6, "answer": 0.2, "blank": 0.2}),
    "outside": Diet(
        0.07, {"think": 0.45, "answer": 0.4, "switch": 0.1, "cut": 0.05}, direct_weight=1.0
    ),
}


def with_shares(**shares: float) -> dict[str, Diet]:
    """`DIETS` with other shares of the documents."""
    return {name: replace(diet, share=shares[name]) for name, diet in DIETS.items()}


@dataclass(frozen=True)
class CoursePart:
    """One part of the opening, the first phase of a training.

    Attributes:
        until: end of the part, in units of the opening's length. From 1 to 1.5 the full mix of
            families gradually replaces the opening.
        shares: fractions of "equations" (passages of arithmetic) and of the sequence kinds in
            `lists`.
        longest: maximum number of words in a sequence.
    """

    until: float
    shares: Mapping[str, float]
    longest: int = lists.MAX_STEPS


Opening = tuple[CoursePart, ...]
"""The parts of an opening in order; the last part ends at 1.5 or later."""

COPY_FIRST_OPENING: Opening = (
    CoursePart(0.5, {"equations": 0.25, "repeat": 0.75}),
    CoursePart(0.7, {"equations": 0.12, "repeat": 0.88}),
    CoursePart(1.0, {"equations": 0.12, "repeat": 0.44, "backwards": 0.44}),
    CoursePart(1.5, {"equations": 0.12, "repeat": 0.44, "backwards": 0.44}, 24),
)
"""Sequences are repeated in the same order first, then in reverse order as well."""

REVERSE_FIRST_OPENING: Opening = (
    CoursePart(0.4, {"equations": 0.2, "backwards": 0.5, "turned": 0.3}),
    CoursePart(
        1.0,
        {
            "equations": 0.2,
            "repeat": 0.18,
            "backwards": 0.16,
            "turned": 0.14,
            "pairs": 0.06,
            "look-up": 0.14,
            "facts": 0.12,
        },
    ),
    CoursePart(
        1.5,
        {
            "equations": 0.14,
            "repeat": 0.14,
            "backwards": 0.12,
            "turned": 0.14,
            "pairs": 0.06,
            "look-up": 0.14,
            "marked": 0.12,
            "facts": 0.14,
        },
    ),
)
"""Sequences are repeated in reverse order first, so that heads learn to attend to the earlier
occurrence of the same word. A model that first learns to attend to the token after it does not
learn this later. Repetition in the same order and lists follow."""


@dataclass(frozen=True)
class Document:
    """The token ids of a training document, with the loss weight of each token."""

    kind: str
    token_ids: list[int]
    weights: list[float]


@dataclass(frozen=True)
class Stretch:
    """A part of a document, with the loss weight of each character."""

    text: str
    weights: Sequence[float]

    @classmethod
    def even(cls, text: str, weight: float) -> "Stretch":
        """A text with the same weight for all characters."""
        return cls(text, [weight] * len(text))

    @classmethod
    def of(cls, problem: Problem, part: str, weight: float = 1.0) -> "Stretch":
        """A part of a problem: one weight for predictable characters, a small one for others."""
        weights = [
            weight if label.known else UNPREDICTABLE_TOKEN_WEIGHT
            for label in char_labels(problem, part)
        ]
        return cls(text_of(problem, part), weights)


class Writer:
    """Writes random training documents; the same random state gives the same documents."""

    def __init__(
        self,
        tokenizer: Any,
        early_stop: str,
        *,
        diets: Mapping[str, Diet] = DIETS,
        opening: Opening = COPY_FIRST_OPENING,
    ) -> None:
        self.tokenizer, self.early_stop = tokenizer, early_stop
        self.opening = opening
        self.diets = diets
        self._shares = [diet.share for diet in self.diets.values()]
        self._families_with_chats = {
            name: diet.share for name, diet in self.diets.items() if set(diet.modes) - {"text"}
        }

    def write(self, rng: random.Random, *, stage: float = math.inf) -> Document:
        """One document of a random family and mode.

        Args:
            rng: source of all random choices.
            stage: position in the opening, in units of its length. Below 1 all documents are
                equations and repeated sequences. From 1 to 1.5 their fraction falls linearly
                from 1 to 0.
        """
        if rng.random() < 3 - 2 * stage:
            return self._opening_document(rng, stage)
        if rng.random() < LONG_PROBABILITY and self._families_with_chats:
            return self._long(rng)
        name = rng.choices(list(self.diets), weights=self._shares)[0]
        mode = _weighted_choice(rng, self.diets[name].modes)
        return self._short(rng, name, mode)

    def _short(self, rng: random.Random, name: str, mode: Mode) -> Document:
        """A chat or a plain text of a family."""
        if mode == "text":
            passages = range(self.diets[name].passages)
            return self.plain([self._draw_problem(rng, name, mode) for _ in passages])
        problem = self._draw_problem(rng, name, mode)
        history = self._history(rng) if rng.random() < HISTORY_PROBABILITY else ""
        return self.document(problem, mode, rng, history=history)

    def _long(self, rng: random.Random) -> Document:
        """Chats of different families in a row, as long as they fit a random number of tokens."""
        wanted = rng.randint(*LONG_TOKENS)
        ids: list[int] = []
        weights: list[float] = []
        while True:
            name = _weighted_choice(rng, self._families_with_chats)
            modes: dict[Mode, float] = dict(self.diets[name].modes)
            modes.pop("text", None)
            chat = self._short(rng, name, _weighted_choice(rng, modes))
            if ids and len(ids) + len(chat.token_ids) > wanted:
                return Document("mixed long", ids, weights)
            ids += chat.token_ids
            weights += chat.weights

    def plain(self, problems: Sequence[Problem]) -> Document:
        """The passages of problems of one family, joined as plain text."""
        diet = self.diets[problems[0].family]
        stretches = [Stretch.of(problem, "passage", diet.text_weight) for problem in problems]
        stretches = [_with_turn_weight(stretch, diet.turn_weight) for stretch in stretches]
        stretches.append(Stretch.even(END_OF_TEXT, UNPREDICTABLE_TOKEN_WEIGHT))
        return self._encode("text", problems[0].family, stretches)

    def document(
        self, problem: Problem, mode: Mode, rng: random.Random, *, history: str = ""
    ) -> Document:
        """A problem as a chat in one mode, after the earlier turns in `history`."""
        switch = {"switch": " /no_think", "think": rng.choice(("", "", "", " /think"))}
        asked = Stretch.of(problem, "question")
        before = Stretch.even(f"{history}<|im_start|>user\n", UNPREDICTABLE_TOKEN_WEIGHT)
        after = f"{switch.get(mode, '')}<|im_end|>\n<|im_start|>assistant\n"
        stretches = [before, asked, Stretch.even(after, UNPREDICTABLE_TOKEN_WEIGHT)]
        if mode == "answer":
            stretches.append(Stretch.even(EMPTY_THINKING_BLOCK, UNPREDICTABLE_TOKEN_WEIGHT))
        elif mode in ("switch", "blank"):
            stretches.append(Stretch.even(EMPTY_THINKING_BLOCK, 1.0))
        elif mode == "cut":
            stretches.append(Stretch.even(self._cut_thinking(problem, rng), 1.0))
        else:
            turn_weight = self.diets[problem.family].turn_weight
            thinking = _with_turn_weight(Stretch.of(problem, "thinking"), turn_weight)
            stretches += [Stretch.even("<think>\n", 1.0), thinking]
            stretches.append(Stretch.even("\n</think>\n\n", 1.0))
        heavy = mode in ("answer", "switch", "blank") or problem.hint is not None
        weight = self.diets[problem.family].direct_weight if heavy else 1.0
        answer = Stretch.of(problem, "answer", weight)
        reply = [answer, Stretch.even("<|im_end|>", weight), Stretch.even("\n", 0.0)]
        if mode == "cut":
            inserted = Stretch.even(f"{self.early_stop}\n</think>\n\n", 0.0)
            return self._encode("cut", problem.family, stretches, [inserted, *reply])
        return self._encode(mode, problem.family, [*stretches, *reply])

    def _opening_document(self, rng: random.Random, stage: float) -> Document:
        """Equations, or a repeated sequence."""
        part = next(part for part in self.opening if stage < part.until)
        kind = _weighted_choice(rng, part.shares)
        if kind == "equations":
            drawn = [arithmetic.draw(rng, 1, "train") for _ in range(3)]
            return self.plain([_with_wrong_equations(rng, problem) for problem in drawn])
        steps = rng.randint(lists.MIN_STEPS, part.longest)
        return self.plain([lists.for_training(rng, kind, steps)])

    def _draw_problem(self, rng: random.Random, name: str, mode: Mode) -> Problem:
        """A problem of the training split that is none of the first questions."""
        while True:
            problem = self._draw_any_problem(rng, name, mode)
            if normalised(problem.question) not in RESERVED_QUESTIONS:
                return problem

    def _draw_any_problem(self, rng: random.Random, name: str, mode: Mode) -> Problem:
        family, diet = FAMILIES[name], self.diets[name]
        steps = rng.randint(family.least, family.most)
        if diet.steps:
            steps = rng.choice(diet.steps)
        if diet.head and mode in diet.head_modes:
            steps = rng.choice(diet.head)
        if diet.kinds and mode == "text":
            return lists.for_training(rng, _weighted_choice(rng, diet.kinds), steps)
        has_hint = name == arithmetic.FAMILY and mode not in ("text", "cut")
        if has_hint and rng.random() < HINT_PROBABILITY:
            return hints.draw(rng, steps, "train")
        problem = _in_language(rng, diet.english, lambda: family.draw(rng, steps, "train"))
        if name == arithmetic.FAMILY and mode == "text":
            if rng.random() < QUIZ_PROBABILITY:
                return replace(problem, passage=arithmetic.quiz(rng))
            return _with_wrong_equations(rng, problem)
        return _with_turn(rng, problem, diet.wrong_turns) if mode == "think" else problem

    def _cut_thinking(self, problem: Problem, rng: random.Random) -> str:
        """Thinking text truncated at a random token, more often near its end."""
        ids = self.tokenizer.encode(problem.thinking, add_special_tokens=False)
        share = rng.random() if rng.random() < 0.5 else rng.random() ** 0.3
        kept = self.tokenizer.decode(ids[: round(share * len(ids))])
        return f"<think>\n{kept}"

    def _history(self, rng: random.Random) -> str:
        """An earlier question and its answer, without thinking as in the chat template."""
        name = rng.choices(list(self.diets), weights=self._shares)[0]
        family = FAMILIES[name]
        steps = rng.randint(family.least, min(family.least + 2, family.most))
        before = family.draw(rng, steps, "train")
        return turn("user", before.question) + turn("assistant", before.answer)

    def _encode(self, mode: Mode, family: str, *texts: Sequence[Stretch]) -> Document:
        """The tokens of texts that are encoded separately and concatenated.

        At inference the early-stop sentence is tokenised separately from the text before it, so
        it is here, too. A token whose characters have several weights takes the lowest.
        """
        ids: list[int] = []
        weights: list[float] = []
        for text in texts:
            by_char = [weight for stretch in text for weight in stretch.weights]
            joined = "".join(stretch.text for stretch in text)
            encoded = self.tokenizer.backend_tokenizer.encode(joined, add_special_tokens=False)
            ids += encoded.ids
            weights += [min(by_char[a:b], default=0.0) for a, b in encoded.offsets]
        return Document(f"{family} {mode}", ids, weights)


def _in_language(rng: random.Random, english: float, draw: Callable[[], Problem]) -> Problem:
    """A problem that is English with this probability; `draw` gives both languages."""
    problem = draw()
    if english == 0.5:
        return problem
    wanted = "en" if rng.random() < english else "zh"
    while problem.language != wanted:
        problem = draw()
    return problem


def _with_turn_weight(thinking: Stretch, weight: float) -> Stretch:
    """The text with this weight at each line break and "Wait" that a wrong step determines."""
    weights = list(thinking.weights)
    for turn in re.finditer(f"\n{WAIT}", thinking.text):
        for place in range(*turn.span()):
            weights[place] *= weight if weights[place] >= 1 else 1.0
    return Stretch(thinking.text, weights)


def _with_wrong_equations(rng: random.Random, problem: Problem) -> Problem:
    return replace(problem, passage=with_wrong_equations(rng, problem.passage))


def _with_turn(rng: random.Random, problem: Problem, wrong_turns: float) -> Problem:
    """The problem, now and then with a wrong turn or a check in its thinking."""
    draw = rng.random()
    if problem.family == arithmetic.FAMILY:
        return with_wrong_turn(rng, problem) if draw < wrong_turns else problem
    return with_check(problem) if draw < CHECK_PROBABILITY else problem


def _weighted_choice(rng: random.Random, shares: Mapping[Name, float]) -> Name:
    return rng.choices(list(shares), weights=list(shares.values()))[0]


def turn(role: str, content: str) -> str:
    """One turn in the format of the chat template."""
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"
