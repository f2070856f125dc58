"""The plan and the results of a sweep over thinking budgets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.generation.sampling import Sampling
from qwen3lab.storage.jsonl_store import Store
from qwen3lab.thinking.rewind import Answer

if TYPE_CHECKING:
    import pandas

SampleKey = tuple[int, int]
"""The number of a problem, and the number of a sample of it."""


@dataclass(frozen=True)
class SweepPlan:
    """All inputs that determine the results of a sweep.

    Attributes:
        model: name of the model.
        weights: dtype of the weights, and kind of quantisation if any.
        config: of the model.
        problems: digest of the questions, answers, levels and graders.
        n_problems: number of problems.
        budgets: thinking budgets in tokens, in ascending order.
        samples: number of replies per problem.
        seed: base seed; sample `s` of problem `p` has the seed `seed + p * samples + s`.
        sampling: sampling parameters; None means the published ones of each mode.
        answer_tokens: maximum length of an answer.
        at_once: True if problems are also answered without thinking.
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
        """The seed that reproduces the row's replies with `lab.chat`."""
        return self.seed + row[0] * self.samples + row[1]


@dataclass(frozen=True)
class Attempt:
    """One sample of a problem: one thinking, and its answers for all budgets.

    Attributes:
        problem: number of the problem.
        sample: number of the sample.
        level: difficulty of the problem.
        prompt_tokens: length of the prompt with thinking.
        thinking: text of the thinking with the largest budget.
        answers: one per budget.
        right: for each answer, True if it is correct.
        at_once: the answer without thinking, or None.
        right_at_once: True if that answer is correct; None without one.
        prompt_tokens_at_once: length of the prompt without thinking; 0 if not run.
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
        """Length of the prompt for a budget; None means without thinking."""
        return self.prompt_tokens_at_once if budget is None else self.prompt_tokens

    @property
    def natural_tokens(self) -> int | None:
        """Thinking tokens if the model ended the thinking itself; None if the budget ended it."""
        last = self.answers[-1]
        return None if last.cut else last.thinking_tokens


@dataclass(frozen=True)
class Sweep:
    """Results of a sweep over thinking budgets.

    Attributes:
        plan: the inputs.
        attempts: ordered by problem and sample; incomplete after an interrupt.
    """

    plan: SweepPlan
    attempts: tuple[Attempt, ...]

    def __repr__(self) -> str:
        done, planned = len(self.attempts), len(self.plan.rows)
        missing = "" if done == planned else f", {planned - done} not run"
        return f"Sweep({self.plan.model}: {done} samples, budgets {self.plan.budgets}{missing})"

    @property
    def budgets(self) -> tuple[int, ...]:
        """Thinking budgets in tokens, in ascending order."""
        return self.plan.budgets

    @property
    def complete(self) -> bool:
        """True if all planned samples have been run."""
        return len(self.attempts) == len(self.plan.rows)

    def to_pandas(self) -> "pandas.DataFrame":
        """A tidy table with one row per answer; `budget` is missing for answers without thinking.

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
        """Load a complete or incomplete sweep from its file.

        Raises:
            ValueError: the file does not contain a sweep.
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
