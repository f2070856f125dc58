"""The plan and the results of a sweep over thinking budgets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.display import Summary, one_line
from qwen3lab.generation.sampling import Sampling
from qwen3lab.storage.jsonl_store import Store
from qwen3lab.thinking.limits import check_budgets, check_samples
from qwen3lab.thinking.rewind import Answer
from qwen3lab.translation import tr

if TYPE_CHECKING:
    import pandas

SampleKey = tuple[int, int]
"""The indices of a problem and of a sample."""


@dataclass(frozen=True)
class SweepPlan:
    """All settings that determine the results of a sweep.

    Attributes:
        model: name of the model.
        weights: dtype of the weights, and their quantisation if any.
        config: configuration of the model.
        problems: hash of the questions, answers, levels and graders.
        n_problems: number of problems.
        budgets: thinking budgets in tokens, ascending.
        samples: number of sampled replies per problem.
        seed: sample `s` of problem `p` has the seed `seed + p * samples + s`.
        sampling: how tokens are sampled; None for Qwen3's published settings of each mode.
        answer_tokens: maximum number of tokens of an answer.
        at_once: also answer without thinking.
        weights_and_tokens: hash of the weights and of the prompts' token ids, of a sweep with a
            file; empty in files of earlier versions.
        published_sampling: what None for `sampling` stands for: with and without thinking.
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
    weights_and_tokens: str = field(default="", compare=False)
    published_sampling: tuple[Sampling, ...] = field(default=(), compare=False)

    def check(self) -> None:
        """Raises a ValueError for settings that no sweep can have."""
        check_budgets(self.budgets)
        check_samples(self.samples, self.n_problems)
        if min(self.n_problems, self.answer_tokens) < 1:
            raise ValueError(tr("the sweep has no problem, or no tokens for an answer"))

    def key_of(self, attempt: "Attempt") -> SampleKey:
        """The indices of its problem and sample.

        Raises:
            ValueError: the sweep has no such attempt.
        """
        if not (
            0 <= attempt.problem < self.n_problems
            and 0 <= attempt.sample < self.samples
            and len(attempt.answers) == len(attempt.right) == len(self.budgets)
            and (attempt.at_once is not None) == self.at_once
            and (attempt.right_at_once is not None) == self.at_once
        ):
            raise ValueError(tr("it does not fit the plan in the first line"))
        return attempt.problem, attempt.sample

    @property
    def n_rows(self) -> int:
        """Number of pairs of problem and sample."""
        return self.n_problems * self.samples

    @property
    def rows(self) -> list[SampleKey]:
        """All pairs of problem and sample."""
        return [(p, s) for p in range(self.n_problems) for s in range(self.samples)]

    def seed_of(self, row: SampleKey) -> int:
        """The seed of a sample; `lab.chat` gives the same reply with this seed."""
        return self.seed + row[0] * self.samples + row[1]


@dataclass(frozen=True)
class Attempt:
    """One sample of a problem: one thinking text, with an answer for each budget.

    Attributes:
        problem: index of the problem.
        sample: index of the sample.
        level: difficulty of the problem.
        prompt_tokens: length of the prompt with thinking.
        thinking: the thinking text within the largest budget.
        answers: the answer for each budget.
        right: for each answer, True if it is right.
        at_once: the answer without thinking, or None.
        right_at_once: True if that answer is right; None if there is none.
        prompt_tokens_at_once: length of the prompt without thinking; 0 if not asked.
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
        """Length of the prompt for a budget; None for the prompt without thinking."""
        return self.prompt_tokens_at_once if budget is None else self.prompt_tokens

    @property
    def natural_tokens(self) -> int | None:
        """Number of thinking tokens; None if the largest budget ended the thinking."""
        last = self.answers[-1]
        return None if last.cut else last.thinking_tokens


@dataclass(frozen=True)
class Sweep:
    """The results of a sweep.

    Attributes:
        plan: the settings.
        attempts: the results, ordered by problem and sample; fewer than planned after an
            interrupt.
    """

    plan: SweepPlan
    attempts: tuple[Attempt, ...]

    def __repr__(self) -> str:
        done, planned = len(self.attempts), self.plan.n_rows
        left = "" if done == planned else tr(", {n} not run", n=planned - done)
        name = one_line(self.plan.model)
        return tr(
            "Sweep({name}: {done} replies, budgets {budgets}{left})",
            name=name,
            done=done,
            budgets=self.plan.budgets,
            left=left,
        )

    def _repr_html_(self) -> str | None:
        plan, left = self.plan, self.plan.n_rows - len(self.attempts)
        facts = {
            tr("problems"): f"{plan.n_problems:,}",
            tr("samples"): str(plan.samples),
            tr("replies"): f"{len(self.attempts):,}",
            **({tr("not run"): f"{left:,}"} if left else {}),
            tr("weights"): plan.weights,
            tr("seed"): str(plan.seed),
        }
        return Summary(
            tr("Sweep of {model}", model=plan.model), facts, frame=self._by_budget
        ).html()

    def _by_budget(self) -> "pandas.DataFrame":
        """A row per budget: answers, share of right ones, mean thinking tokens."""
        table = self.to_pandas()
        if not len(table):
            return table
        by_budget = table.assign(
            budget=[
                tr("no thinking") if missing else f"{budget:,}"
                for budget, missing in zip(table["budget"], table["budget"].isna(), strict=True)
            ]
        ).groupby("budget", sort=False)
        return by_budget.agg(
            answers=("right", "size"), right=("right", "mean"), thinking=("thinking_tokens", "mean")
        ).reset_index()

    @property
    def budgets(self) -> tuple[int, ...]:
        """The thinking budgets in tokens, ascending."""
        return self.plan.budgets

    @property
    def complete(self) -> bool:
        """True if all planned attempts have been run."""
        return len(self.attempts) == self.plan.n_rows

    def to_pandas(self) -> "pandas.DataFrame":
        """A table with one row per answer; `budget` is missing for answers without thinking.

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
        """Read a sweep from its file; the sweep may be incomplete.

        Raises:
            ResultsError: the file was not written by a sweep, or is damaged.
            OSError: the file cannot be read.
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
    """The attempts, ordered by problem and sample."""
    return tuple(sorted(attempts, key=lambda attempt: (attempt.problem, attempt.sample)))
