"""What follows a wrong step in a thinking, and a "Wait" at its end."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tqdm.auto import tqdm

from qwen3lab.analysis.proportions import Share
from qwen3lab.generation.reply import Generation, all_finished
from qwen3lab.generation.sampling import Sampling
from qwen3lab.generation.thinking_control import Extension
from qwen3lab.lab import Lab
from qwen3lab.tiny.evaluation.accuracy import accuracy, held_out, replies, share_right
from qwen3lab.tiny.world import arithmetic
from qwen3lab.tiny.world.hints import wrong_value
from qwen3lab.tiny.world.problems import Piece, Problem
from qwen3lab.tiny.world.wrong_turns import WAIT

STEPS = (2, 3, 4, 5, 6)
"""Numbers of steps of the problems, which are as frequent as each other."""

END_OF_THINKING = "</think>"


@dataclass(frozen=True)
class Turns:
    """Replies to held-out arithmetic of 2 to 6 steps, with greedy decoding.

    Attributes:
        waits: share of the thinkings that go on with a new line and "Wait" after a wrong step.
        recovered: share of the answers to the same problems that are right.
        plain: share of right answers to other problems, after the thinking of the model.
        extended: the same share where "Wait" was put in place of the first `</think>`.
    """

    waits: Share
    recovered: Share
    plain: Share
    extended: Share


@dataclass(frozen=True)
class Forced:
    """A problem and the beginning of a thinking, which ends with a wrong step."""

    problem: Problem
    thinking: str


@dataclass(frozen=True)
class AskedTurns:
    """The problems of `Turns`."""

    forced: list[Forced]
    extended: list[Problem]

    @property
    def n_replies(self) -> int:
        """Number of replies that measuring takes."""
        return len(self.forced) + 2 * len(self.extended)


def draw_turns(n: int, rng: random.Random) -> AskedTurns:
    """`n` problems for wrong steps, and `n` for extensions."""
    return AskedTurns(
        [with_wrong_step(rng, _draw(rng)) for _ in range(n)], [_draw(rng) for _ in range(n)]
    )


def measure_turns(lab: Lab, asked: AskedTurns, bar: tqdm) -> Turns:
    """The replies to these problems."""
    continued = all_finished([_continue(lab, forced, bar) for forced in asked.forced])
    recovered = [
        forced.problem.grade(answer_of(reply.text))
        for forced, reply in zip(asked.forced, continued, strict=True)
    ]
    waits = [reply.text.startswith(f"\n{WAIT}") for reply in continued]
    plain, _ = accuracy(lab, asked.extended, bar, thinking=True)
    extension = Extension(times=1, text=WAIT)
    extended = replies(lab, asked.extended, bar, thinking=True, extend=extension)
    return Turns(
        waits=Share(sum(waits), len(waits)),
        recovered=Share(sum(recovered), len(recovered)),
        plain=plain,
        extended=share_right(asked.extended, extended),
    )


def with_wrong_step(rng: random.Random, problem: Problem) -> Forced:
    """The thinking of an arithmetic problem up to a random step, whose result is wrong."""
    rows = arithmetic.equations(*arithmetic.chain_of(problem.key))
    step = rng.randrange(problem.steps)
    *left, result = rows[step]
    wrong = Piece(wrong_value(rng, result.text), "wrong value")
    begun: Sequence[list[Piece]] = [*rows[:step], [*left, wrong]]
    return Forced(problem, "".join(piece.text for piece in arithmetic.joined(begun)))


def answer_of(text: str) -> str:
    """The answer in the rest of a reply that began within the thinking; empty without an end."""
    return text.rpartition(END_OF_THINKING)[2] if END_OF_THINKING in text else ""


def _draw(rng: random.Random) -> Problem:
    return held_out("arithmetic", n=1, steps=rng.choice(STEPS), rng=rng)[0]


def _continue(lab: Lab, forced: Forced, bar: tqdm) -> Generation:
    """The rest of the reply after the begun thinking."""
    begun = f"<think>\n{forced.thinking}"
    question = [{"role": "user", "content": forced.problem.question}]
    ids = [
        *lab.token_ids(question, thinking=True),
        *lab.tokenizer.encode(begun, add_special_tokens=False),
    ]
    whole = lab.tokenizer.encode(f"{forced.problem.thinking}{forced.problem.answer}")
    reply = lab.generate(ids, sampling=Sampling.greedy(), max_new_tokens=len(whole) * 3 // 2 + 30)
    bar.update(1)
    return reply
