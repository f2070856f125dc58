"""What a sweep over budgets was asked for, and what it found."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.display import Summary, one_line
from qwen3lab.generation.sampling import Sampling
from qwen3lab.storage.jsonl_store import Store
from qwen3lab.thinking.rewind import Answer

if TYPE_CHECKING:
    import pandas

SampleKey = tuple[int, int]
"""A problem and a sample of it, by number."""


@dataclass(frozen=True)
class SweepPlan:
    """All that decides what a sweep gives.

    Attributes:
        model: its name.
        weights: their dtype, and how they are quantised if they are.
        config: its sizes.
        problems: a digest of the questions, answers, levels and graders.
        n_problems: how many.
        budgets: thinking tokens allowed, least first.
        samples: thinkings of each problem.
        seed: of the draw; sample `s` of problem `p` has the seed `seed + p * samples + s`.
        sampling: how tokens are drawn; None for the published way of each mode.
        answer_tokens: longest answer.
        at_once: answered without thinking, too.
    """

    model: str
    weights: str
    config: Qwen3Config
    problems: str
    n_problems: int
    budgets: tuple[int, ...]
    samples: int
    seed: int
    sampling: Sampling | None
    answer_tokens: int
    at_once: bool

    @property
    def rows(self) -> list[SampleKey]:
        """Every sample of every problem."""
        return [(p, s) for p in range(self.n_problems) for s in range(self.samples)]

    def seed_of(self, row: SampleKey) -> int:
        """The seed with which `lab.chat` gives the same replies."""
        return self.seed + row[0] * self.samples + row[1]


@dataclass(frozen=True)
class Attempt:
    """One problem, thought about once, and answered within every budget.

    Attributes:
        problem: its number.
        sample: the thinking's number.
        level: the problem's difficulty.
        prompt_tokens: of the question as it was asked, to be thought about.
        thinking: what was thought within the largest budget.
        answers: one per budget.
        right: whether each is right.
        at_once: the answer without thinking, or None.
        right_at_once: whether that is right, or None.
        prompt_tokens_at_once: of the question as it was asked without thinking; 0 if it was not.
    """

    problem: int
    sample: int
    level: str
    prompt_tokens: int
    thinking: str
    answers: tuple[Answer, ...]
    right: tuple[bool, ...]
    at_once: Answer | None = None
    right_at_once: bool | None = None
    prompt_tokens_at_once: int = 0

    def prompt_tokens_for(self, budget: int | None) -> int:
        """Of the question as it was asked within a budget, or without thinking if that is None."""
        return self.prompt_tokens_at_once if budget is None else self.prompt_tokens

    @property
    def natural_tokens(self) -> int | None:
        """Thinking tokens until it ended by itself; None if the largest budget cut it."""
        last = self.answers[-1]
        return None if last.cut else last.thinking_tokens


@dataclass(frozen=True)
class Sweep:
    """What was answered within each budget.

    Attributes:
        plan: what was asked for.
        attempts: in the order of problems and samples; fewer than planned after an interrupt.
    """

    plan: SweepPlan
    attempts: tuple[Attempt, ...]

    def __repr__(self) -> str:
        done, planned = len(self.attempts), len(self.plan.rows)
        left = "" if done == planned else f", {planned - done} not run"
        name = one_line(self.plan.model)
        return f"Sweep({name}: {done} thinkings, budgets {self.plan.budgets}{left})"

    def _repr_html_(self) -> str | None:
        plan, left = self.plan, len(self.plan.rows) - len(self.attempts)
        facts = {
            "problems": f"{plan.n_problems:,}",
            "samples": str(plan.samples),
            "thinkings": f"{len(self.attempts):,}",
            **({"not run": f"{left:,}"} if left else {}),
            "weights": plan.weights,
            "seed": str(plan.seed),
        }
        return Summary(f"Sweep of {plan.model}", facts, frame=self._by_budget).html()

    def _by_budget(self) -> "pandas.DataFrame":
        """A row per budget: answers, share of right ones, mean thinking tokens."""
        table = self.to_pandas()
        if not len(table):
            return table
        by_budget = table.assign(
            budget=[
                "no thinking" if missing else f"{budget:,}"
                for budget, missing in zip(table["budget"], table["budget"].isna(), strict=True)
            ]
        ).groupby("budget", sort=False)
        return by_budget.agg(
            answers=("right", "size"), right=("right", "mean"), thinking=("thinking_tokens", "mean")
        ).reset_index()

    @property
    def budgets(self) -> tuple[int, ...]:
        """Thinking tokens allowed, least first."""
        return self.plan.budgets

    @property
    def complete(self) -> bool:
        """True if everything that was planned has been run."""
        return len(self.attempts) == len(self.plan.rows)

    def to_pandas(self) -> "pandas.DataFrame":
        """A tidy table, a row per answer; `budget` is missing where there was no thinking.

        Columns: problem, sample, level, budget, answer, right, thinking_tokens, answer_tokens,
        prompt_tokens, stop.
        """
        import pandas

        table = pandas.DataFrame(
            [
                _cells(a, budget, answer, right)
                for a in self.attempts
                for budget, answer, right in self._answers(a)
            ]
        )
        return table.astype({"budget": "Int64"}) if len(table) else table

    def _answers(self, attempt: Attempt) -> Iterator[tuple[int | None, Answer, bool]]:
        yield from zip(self.budgets, attempt.answers, attempt.right, strict=True)
        if attempt.at_once is not None:
            yield None, attempt.at_once, bool(attempt.right_at_once)

    @classmethod
    def load(cls, path: str | Path) -> "Sweep":
        """A sweep from its file, whole or not.

        Raises:
            ValueError: the file is none of a sweep.
        """
        store = Store(path, SweepPlan, Attempt)
        plan = store.plan()
        return cls(plan, in_order(store.results()))


def _cells(attempt: Attempt, budget: int | None, answer: Answer, right: bool) -> dict[str, object]:
    return {
        "problem": attempt.problem,
        "sample": attempt.sample,
        "level": attempt.level,
        "budget": budget,
        "answer": answer.text,
        "right": right,
        "thinking_tokens": answer.thinking_tokens,
        "answer_tokens": answer.answer_tokens,
        "prompt_tokens": attempt.prompt_tokens_for(budget),
        "stop": answer.stop,
    }


def in_order(attempts: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """Attempts by problem and sample."""
    return tuple(sorted(attempts, key=lambda attempt: (attempt.problem, attempt.sample)))
