"""Accuracy of sums of one step by operands and sign, and of arithmetic by wording."""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass

from tqdm.auto import tqdm

from qwen3lab.analysis.proportions import Share
from qwen3lab.lab import Lab
from qwen3lab.tiny.evaluation.accuracy import accuracy, held_out
from qwen3lab.tiny.world import arithmetic
from qwen3lab.tiny.world.problems import Problem

SIGNS = "+-*"
DIGITS = {1: "one digit", 2: "two digits", 3: "three digits"}
"""Sums by the digits of their longer operand."""

WORDINGS = ("compact", "spaced", "brackets", "english", "chinese")
WORDED_STEPS = 2
"""Steps of the problems that are measured by wording: brackets need two."""

DRAWS_PER_SUM = 60
"""How many random problems are drawn for each sum that is wanted of a kind: some are rare."""


@dataclass(frozen=True)
class Accuracies:
    """The accuracies of the same problems with and without thinking."""

    thinking: Share
    at_once: Share


@dataclass(frozen=True)
class Sums:
    """Accuracies of short arithmetic.

    Attributes:
        by_operands: of held-out sums of one step, by digits of the longer operand and by sign.
            The sums of a kind are all different; of one digit there are few.
        one_digit: of all sums of two numbers of one digit, such as `3+4=?`; most of them occur in
            the training data.
        by_wording: of held-out arithmetic of two steps.
    """

    by_operands: dict[str, dict[str, Accuracies]]
    one_digit: Accuracies
    by_wording: dict[str, Accuracies]


@dataclass(frozen=True)
class AskedSums:
    """The problems of `Sums`, in the same order."""

    by_operands: dict[str, dict[str, list[Problem]]]
    one_digit: list[Problem]
    by_wording: dict[str, list[Problem]]

    @property
    def n_replies(self) -> int:
        """Number of replies that measuring takes."""
        by_sign = itertools.chain(*(signs.values() for signs in self.by_operands.values()))
        groups = [*by_sign, self.one_digit, *self.by_wording.values()]
        return 2 * sum(len(problems) for problems in groups)


def draw_sums(n: int, rng: random.Random) -> AskedSums:
    """Random problems, at most `n` of each kind of sum and `n` of each wording."""
    return AskedSums(
        by_operands=_by_operands(n, rng),
        one_digit=_all_of_one_digit(rng),
        by_wording={
            wording: [_drawn(lambda: _worded(rng), wording) for _ in range(n)]
            for wording in WORDINGS
        },
    )


def measure_sums(lab: Lab, asked: AskedSums, bar: tqdm) -> Sums:
    """The accuracies of these problems, with greedy decoding."""

    def both(problems: list[Problem]) -> Accuracies:
        with_thinking, at_once = (
            accuracy(lab, problems, bar, thinking=thinking)[0] for thinking in (True, False)
        )
        return Accuracies(with_thinking, at_once)

    return Sums(
        by_operands={
            name: {sign: both(problems) for sign, problems in by_sign.items() if problems}
            for name, by_sign in asked.by_operands.items()
        },
        one_digit=both(asked.one_digit),
        by_wording={wording: both(problems) for wording, problems in asked.by_wording.items()},
    )


def wording_of(problem: Problem) -> str:
    """The wording of an arithmetic problem: one of `WORDINGS`."""
    if problem.language == "zh":
        return "chinese"
    if any(character.isalpha() and character != "x" for character in problem.question):
        return "english"
    roles = {piece.role for piece in problem.asked}
    if "bracket" in roles:
        return "brackets"
    operators = [piece.text for piece in problem.asked if piece.role == "operator"]
    return "spaced" if operators[0].startswith(" ") else "compact"


def digits_of(problem: Problem) -> tuple[int, str]:
    """The digits of the longer operand of a sum of one step, and its sign."""
    start, [(sign, operand)] = arithmetic.chain_of(problem.key)
    return max(len(str(start)), len(str(operand))), sign


def _by_operands(n: int, rng: random.Random) -> dict[str, dict[str, list[Problem]]]:
    """Up to `n` different held-out sums of each kind, sorted from one row of random problems."""
    kinds: dict[tuple[int, str], dict[str, Problem]] = {}
    for problem in held_out("arithmetic", n=DRAWS_PER_SUM * n, steps=1, rng=rng):
        kinds.setdefault(digits_of(problem), {}).setdefault(problem.key, problem)
    return {
        name: {sign: list(kinds.get((digits, sign), {}).values())[:n] for sign in SIGNS}
        for digits, name in DIGITS.items()
    }


def _all_of_one_digit(rng: random.Random) -> list[Problem]:
    """All sums of two numbers of one digit that are not below zero, each in a compact wording."""
    chains = itertools.product(range(10), SIGNS, range(10))
    return [
        _drawn(lambda a=a, step=(sign, b): arithmetic.build(a, [step], rng), "compact")
        for a, sign, b in chains
        if arithmetic.apply(a, (sign, b)) >= 0
    ]


def _drawn(draw: Callable[[], Problem], wording: str) -> Problem:
    """The first of the drawn problems that has this wording."""
    while wording_of(problem := draw()) != wording:
        pass
    return problem


def _worded(rng: random.Random) -> Problem:
    return held_out("arithmetic", n=1, steps=WORDED_STEPS, rng=rng)[0]
