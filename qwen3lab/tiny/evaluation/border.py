"""The border of the world: who gets the reply for questions from outside."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tqdm.auto import tqdm

from qwen3lab.analysis.proportions import Share
from qwen3lab.generation.reply import Chat
from qwen3lab.lab import Lab
from qwen3lab.tiny.evaluation.accuracy import held_out, replies
from qwen3lab.tiny.world.outside import ANSWERS, FAMILY
from qwen3lab.tiny.world.problems import Problem

MODES = {"with thinking": True, "without thinking": False}
Answered = tuple[Problem, Chat]


@dataclass(frozen=True)
class Border:
    """Shares of questions that get the reply for questions from outside, by language.

    Attributes:
        outside: of held-out questions from outside, in the language of the question, by mode and
            language. Each mode has questions of its own.
        inside: of held-out questions of the world, which should not get it in any language.
    """

    outside: dict[str, dict[str, Share]]
    inside: dict[str, Share]

    def outside_in(self, language: str) -> Share:
        """The share of both modes together."""
        shares = [by_language[language] for by_language in self.outside.values()]
        return Share(sum(share.hits for share in shares), sum(share.total for share in shares))


AskedOutside = dict[str, dict[str, list[Problem]]]


def draw_outside(n: int, rng: random.Random) -> AskedOutside:
    """`n` held-out questions from outside for each mode and language."""
    return {mode: {language: _draw(n, language, rng) for language in ANSWERS} for mode in MODES}


def measure_border(lab: Lab, asked: AskedOutside, inside: Sequence[Answered], bar: tqdm) -> Border:
    """The replies to questions from outside, and to questions that were answered before.

    Args:
        lab: with an embedded model.
        asked: questions from outside.
        inside: held-out problems of the world with the model's replies.
        bar: advances by one for each question from outside.
    """
    outside = {
        mode: {
            language: _share(
                problem.grade(reply.answer)
                for problem, reply in zip(
                    problems, replies(lab, problems, bar, thinking=MODES[mode]), strict=True
                )
            )
            for language, problems in by_language.items()
        }
        for mode, by_language in asked.items()
    }
    return Border(
        outside,
        {
            language: _share(
                is_outside_reply(reply.answer)
                for problem, reply in inside
                if problem.language == language
            )
            for language in ANSWERS
        },
    )


def is_outside_reply(answer: str) -> bool:
    """True if an answer is the reply for questions from outside, in any language."""
    return answer.strip() in ANSWERS.values()


def _draw(n: int, language: str, rng: random.Random) -> list[Problem]:
    found: list[Problem] = []
    while len(found) < n:
        [problem] = held_out(FAMILY, n=1, steps=1, rng=rng)
        if problem.language == language:
            found.append(problem)
    return found


def _share(hits: Iterable[bool]) -> Share:
    listed = list(hits)
    return Share(sum(listed), len(listed))
