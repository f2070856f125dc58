"""Accuracy under a thinking budget, and its cost in tokens and floating-point operations."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from qwen3lab.analysis.flops import reply_flops
from qwen3lab.analysis.proportions import Share
from qwen3lab.arguments import checked
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.display import Displayed, Summary
from qwen3lab.thinking.rewind import Answer
from qwen3lab.thinking.swept import Attempt, Sweep
from qwen3lab.translation import tr

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class BudgetPoint(Displayed):
    """The answers within one budget; costs are means per answer, as if each ran separately.

    Attributes:
        budget: thinking tokens allowed; None for answers without thinking.
        right: the share of right answers. Several samples of one problem are not independent:
            the interval then holds for these problems only, not for others of their kind.
        cut: the share of replies whose thinking was cut by the budget.
        thinking_tokens: thinking tokens used.
        reply_tokens: tokens of the whole reply.
        flops: operations of the prefill and of decoding the reply.
    """

    budget: int | None
    right: Share
    cut: Share
    thinking_tokens: float
    reply_tokens: float
    flops: float

    @property
    def tokens_per_right(self) -> float:
        """Generated tokens for each right answer; infinite without right answers."""
        return self._per_right(self.reply_tokens)

    @property
    def flops_per_right(self) -> float:
        """Operations for each right answer; infinite without right answers."""
        return self._per_right(self.flops)

    def _per_right(self, cost: float) -> float:
        return cost * self.right.total / self.right.hits if self.right.hits else math.inf

    def _summary(self) -> Summary:
        allowed = (
            tr("without thinking")
            if self.budget is None
            else tr("budget {budget:,}", budget=self.budget)
        )
        return Summary(
            tr("Answers {allowed}", allowed=allowed)
            if self.budget is None
            else tr("Answers within {allowed}", allowed=allowed),
            {
                tr("right"): str(self.right),
                tr("thinking tokens"): f"{self.thinking_tokens:.1f}",
                tr("operations"): f"{self.flops:.3g}",
            },
        )


@dataclass(frozen=True, repr=False)
class BudgetCurve(Displayed):
    """A model's answers within each budget, and without thinking.

    Attributes:
        name: of the model, or of the level of the problems.
        active_params: parameters that are active for each token.
        points: one per budget, the smallest budget first.
        at_once: answers without thinking, or None.
    """

    name: str
    active_params: int
    points: tuple[BudgetPoint, ...]
    at_once: BudgetPoint | None

    def to_pandas(self) -> "pandas.DataFrame":
        """A table, a row per budget; the budget is missing in the row without thinking.

        Columns: budget, answers, right, low, high, cut, thinking_tokens, reply_tokens, flops.
        """
        import pandas

        points = [*([self.at_once] if self.at_once is not None else []), *self.points]
        table = pandas.DataFrame([_row(point) for point in points])
        return table.astype({"budget": "Int64"}) if len(table) else table

    def _summary(self) -> Summary:
        facts = {tr("active parameters"): f"{self.active_params:,}"}
        return Summary(tr("Budget curve of {name}", name=self.name), facts, frame=self._shown)

    def _shown(self) -> "pandas.DataFrame":
        table = self.to_pandas()
        if not len(table):
            return table
        missing = table["budget"].isna()
        return table.assign(budget=table["budget"].astype(str).mask(missing, tr("no thinking")))


@dataclass(frozen=True, repr=False)
class Lengths(Displayed):
    """Thinking lengths on the problems of one level.

    Attributes:
        level: of the problems.
        tokens: thinking tokens of each reply in which the model ended the thinking.
        cut: number of replies whose thinking was cut by the largest budget.
    """

    level: str
    tokens: tuple[int, ...]
    cut: int

    def _summary(self) -> Summary:
        ends = sorted({min(self.tokens), max(self.tokens)}) if self.tokens else []
        span = tr(" to ").join(f"{end:,}" for end in ends) or tr("none")
        facts = {
            tr("thinking tokens"): span,
            tr("ended"): str(len(self.tokens)),
            tr("cut"): str(self.cut),
        }
        return Summary(
            tr("Thinking lengths of level {level}", level=self.level or tr("all")), facts
        )


@checked
def curve(sweep: Sweep, *, level: str | None = None) -> BudgetCurve:
    """Accuracy and cost against the budget.

    Args:
        sweep: with at least one answer.
        level: use only problems of this level.

    Raises:
        ValueError: the sweep has no answer, or none of this level.
    """
    attempts = [a for a in sweep.attempts if level is None or a.level == level]
    if not attempts:
        of = "" if level is None else tr(" of level {level!r}", level=level)
        raise ValueError(
            tr("the sweep has no answer{of}: its levels are {levels}", of=of, levels=levels(sweep))
        )
    config = sweep.plan.config
    points = tuple(
        _point(config, attempts, budget, lambda a, place=place: (a.answers[place], a.right[place]))
        for place, budget in enumerate(sweep.budgets)
    )
    without_thinking = [a for a in attempts if a.at_once is not None]
    at_once = _point(config, without_thinking, None, _at_once) if without_thinking else None
    name = sweep.plan.model if level is None else level
    return BudgetCurve(name, config.n_active_params, points, at_once)


@checked
def levels(sweep: Sweep) -> list[str]:
    """Levels of the problems, in ascending order of their numbers."""
    return sorted({attempt.level for attempt in sweep.attempts}, key=_rank)


@checked
def natural_lengths(sweep: Sweep) -> list[Lengths]:
    """Thinking lengths without a budget, by problem level."""
    result = []
    for level in levels(sweep):
        lengths = [a.natural_tokens for a in sweep.attempts if a.level == level]
        ended = tuple(tokens for tokens in lengths if tokens is not None)
        result.append(Lengths(level, ended, len(lengths) - len(ended)))
    return result


def _point(
    config: Qwen3Config,
    attempts: Sequence[Attempt],
    budget: int | None,
    answered: Callable[[Attempt], tuple[Answer, bool]],
) -> BudgetPoint:
    answers = [(attempt, *answered(attempt)) for attempt in attempts]
    return BudgetPoint(
        budget=budget,
        right=Share(sum(right for _, _, right in answers), len(answers)),
        cut=Share(sum(answer.cut for _, answer, _ in answers), len(answers)),
        thinking_tokens=fmean(answer.thinking_tokens for _, answer, _ in answers),
        reply_tokens=fmean(answer.reply_tokens for _, answer, _ in answers),
        flops=fmean(
            reply_flops(config, attempt.prompt_tokens_for(budget), answer.reply_tokens)
            for attempt, answer, _ in answers
        ),
    )


def _row(point: BudgetPoint) -> dict[str, object]:
    low, high = point.right.interval
    return {
        "budget": point.budget,
        "answers": point.right.total,
        "right": point.right.value,
        "low": low,
        "high": high,
        "cut": point.cut.value,
        "thinking_tokens": point.thinking_tokens,
        "reply_tokens": point.reply_tokens,
        "flops": point.flops,
    }


def _at_once(attempt: Attempt) -> tuple[Answer, bool]:
    assert attempt.at_once is not None
    return attempt.at_once, bool(attempt.right_at_once)


def _rank(level: str) -> tuple[float, str]:
    """Sort key: the number in the name, such as 3 in "Level 3"; names without a number last."""
    digits = "".join(char if char.isdigit() else " " for char in level).split()
    return (float(digits[0]) if digits else math.inf, level)
