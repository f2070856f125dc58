"""The cost of an experiment on thinking, computed before it runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from qwen3lab.generation.pace import measure_pace
from qwen3lab.lab import Lab
from qwen3lab.thinking.problems import Problem
from qwen3lab.translation import tr, tr_count

LONG_SECONDS = 120
"""From this time on, an estimate offers a smaller run."""


@dataclass(frozen=True)
class Cost:
    """The cost of an experiment.

    Attributes:
        parts: number of parts of the thinking text, or of problems.
        continuations: number of continuations to generate.
        most_tokens: maximum number of generated tokens.
        read_tokens: number of prompt tokens to process.
        unit: what one part is: "part", "point", "problem" or "expert".
        seconds: longest time on this machine, from a measured rate; None if not measured.
    """

    parts: int
    continuations: int
    most_tokens: int
    read_tokens: int
    unit: str = "part"
    seconds: float | None = None

    def __str__(self) -> str:
        parts = self._counted()
        if self.continuations == 0:
            return self._timed(
                tr(
                    "{parts}: processes {read_tokens:,} tokens",
                    parts=parts,
                    read_tokens=self.read_tokens,
                )
            )
        return self._timed(
            tr(
                "{parts}, {continuations:,} continuations of at most {most_tokens:,} "
                "tokens: processes {read_tokens:,} and generates up to {all_tokens:,} "
                "tokens",
                parts=parts,
                continuations=self.continuations,
                most_tokens=self.most_tokens // max(self.continuations, 1),
                read_tokens=self.read_tokens,
                all_tokens=self.most_tokens,
            )
        )

    def _counted(self) -> str:
        return {
            "part": tr_count("{n:,} part", "{n:,} parts", self.parts),
            "point": tr_count("{n:,} point", "{n:,} points", self.parts),
            "problem": tr_count("{n:,} problem", "{n:,} problems", self.parts),
            "expert": tr_count("{n:,} expert", "{n:,} experts", self.parts),
        }[self.unit]

    def _timed(self, text: str) -> str:
        if self.seconds is None:
            return text
        text += tr(", at most {duration} on this machine", duration=duration(self.seconds))
        if self.seconds < LONG_SECONDS:
            return text
        return text + tr("; for a shorter run, take the values of lab.suggested.smaller")


def duration(seconds: float) -> str:
    """A time in rounded words, such as "about 4 minutes"."""
    if seconds >= 2 * 3600:
        return tr_count("about {n:,} hour", "about {n:,} hours", round(seconds / 3600))
    if seconds >= 2 * 60:
        return tr_count("about {n:,} minute", "about {n:,} minutes", round(seconds / 60))
    return tr_count("about {n:,} second", "about {n:,} seconds", max(1, round(seconds)))


def estimate(lab: Lab, *, read_tokens: int, steps: int, rows: int) -> float:
    """Seconds that reading prompts and decoding take, from a measured rate.

    Args:
        lab: the model, which runs for a few steps.
        read_tokens: number of prompt tokens to process.
        steps: number of decoding steps.
        rows: replies in a batch: each step generates a token in each.
    """
    with lab.lock:
        pace = measure_pace(lab.decoder, rows=rows)
    return read_tokens * pace.seconds_per_token + steps * pace.seconds_per_step


def sweep_cost(
    lab: Lab,
    problems: Sequence[Problem],
    budgets: Sequence[int],
    *,
    samples: int = 1,
    answer_tokens: int | None = None,
    at_once: bool = True,
    batch: int = 32,
) -> Cost:
    """The cost of `sweep` with the same arguments; the model runs for a few steps only."""
    answer_tokens = answer_tokens or lab.suggested.answer_tokens
    rows = len(problems) * samples
    n_answers = len(budgets) + at_once
    # The thinking is generated once; of the other budgets, only the answers.
    steps = budgets[-1] + n_answers * answer_tokens
    asked = [[{"role": "user", "content": problem.question}] for problem in problems]
    read = samples * sum(len(lab.token_ids(messages, thinking=True)) for messages in asked)
    read *= 1 + at_once
    n_batches = -(-rows // batch)
    seconds = estimate(lab, read_tokens=read, steps=n_batches * steps, rows=min(rows, batch))
    return Cost(len(problems), rows * n_answers, rows * steps, read, "problem", seconds)
