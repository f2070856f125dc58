"""Accuracy by number of steps, with and without thinking, and on questions without thinking."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from tqdm.auto import tqdm

from qwen3lab.analysis.proportions import Share
from qwen3lab.generation.reply import Chat
from qwen3lab.lab import Lab
from qwen3lab.tiny.evaluation.accuracy import accuracy, held_out
from qwen3lab.tiny.world import outside
from qwen3lab.tiny.world.families import FAMILIES
from qwen3lab.tiny.world.problems import Problem

WORLD = {name: family for name, family in FAMILIES.items() if name != outside.FAMILY}
"""The families of the world, without the questions from outside."""


@dataclass(frozen=True)
class AskedLengths:
    """Held-out problems.

    Attributes:
        thinkers: of the families that think, by number of steps.
        others: of the other families, with random numbers of steps.
    """

    thinkers: dict[str, dict[int, list[Problem]]]
    others: dict[str, list[Problem]]

    @property
    def n_replies(self) -> int:
        """Number of replies that measuring takes."""
        by_steps = [
            len(problems) for family in self.thinkers.values() for problems in family.values()
        ]
        return 2 * sum(by_steps) + sum(len(problems) for problems in self.others.values())


@dataclass(frozen=True)
class Lengths:
    """The measurements; the keys of the dicts are family names, then numbers of steps.

    Attributes:
        thinking: accuracy with unlimited thinking.
        at_once: accuracy without thinking.
        thinking_tokens: mean number of thinking tokens.
        questions: accuracy on questions of the families without thinking.
        stopped: share of the replies with unlimited thinking that ended with an end token.
        answered: all problems with their replies.
    """

    thinking: dict[str, dict[int, Share]]
    at_once: dict[str, dict[int, Share]]
    thinking_tokens: dict[str, dict[int, float]]
    questions: dict[str, Share]
    stopped: Share
    answered: list[tuple[Problem, Chat]]


def draw_lengths(n: int, rng: random.Random) -> AskedLengths:
    """`n` problems for each family that thinks and number of steps, and for each other family."""
    return AskedLengths(
        thinkers={
            name: {
                steps: held_out(name, n=n, steps=steps, rng=rng)
                for steps in range(family.least, family.most + 1)
            }
            for name, family in WORLD.items()
            if family.thinks
        },
        others={
            name: [
                family.draw(rng, rng.randint(family.least, family.most), "held-out")
                for _ in range(n)
            ]
            for name, family in WORLD.items()
            if not family.thinks
        },
    )


def measure_lengths(lab: Lab, asked: AskedLengths, bar: tqdm) -> Lengths:
    """The accuracies of these problems, with greedy decoding."""
    answered: list[tuple[Problem, Chat]] = []
    stops: list[str] = []

    def ask(problems: list[Problem], *, thinking: bool) -> tuple[Share, list[Chat]]:
        share, found = accuracy(lab, problems, bar, thinking=thinking)
        answered.extend(zip(problems, found, strict=True))
        return share, found

    with_thinking: dict[str, dict[int, Share]] = {}
    tokens: dict[str, dict[int, float]] = {}
    for name, by_steps in asked.thinkers.items():
        for steps, problems in by_steps.items():
            share, found = ask(problems, thinking=True)
            with_thinking.setdefault(name, {})[steps] = share
            tokens.setdefault(name, {})[steps] = fmean(reply.thinking_tokens for reply in found)
            stops += [reply.stop for reply in found]
    at_once = {
        name: {steps: ask(problems, thinking=False)[0] for steps, problems in by_steps.items()}
        for name, by_steps in asked.thinkers.items()
    }
    questions = {name: ask(problems, thinking=False)[0] for name, problems in asked.others.items()}
    stopped = Share(stops.count("natural"), len(stops))
    return Lengths(with_thinking, at_once, tokens, questions, stopped, answered)


def tokens_per_step(by_steps: Mapping[int, float]) -> float:
    """The mean number of thinking tokens that one more step takes, between two lengths."""
    first, last = min(by_steps), max(by_steps)
    return (by_steps[last] - by_steps[first]) / (last - first)
