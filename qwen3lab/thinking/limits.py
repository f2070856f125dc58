"""Limits of plans, checked before anything is run or allocated."""

import itertools
from collections.abc import Sequence
from typing import SupportsIndex

from qwen3lab.translation import tr

MAX_SAMPLES = 10_000
"""Maximum number of samples that run in one batch."""
MAX_REPLIES = 10_000_000
"""Maximum number of replies of a sweep: their results are held in memory."""


def check_budgets(budgets: Sequence[object]) -> tuple[int, ...]:
    """The thinking budgets as integers.

    Raises:
        ValueError: there is none, or they are no whole numbers, negative or not ascending.
    """
    wrong = [each for each in budgets if not _is_whole(each)]
    if wrong:
        raise ValueError(
            tr("a budget is {wrong!r}: expected a whole number of thinking tokens", wrong=wrong[0])
        )
    integers = tuple(int(budget) for budget in budgets)  # type: ignore[call-overload]
    if not integers:
        raise ValueError(tr("there is no budget: expected numbers of thinking tokens, ascending"))
    if integers[0] < 0:
        raise ValueError(
            tr("a budget is {integers}: expected 0 thinking tokens or more", integers=integers[0])
        )
    if any(a >= b for a, b in itertools.pairwise(integers)):
        raise ValueError(
            tr(
                "the budgets are {integers}: expected ascending numbers, each once",
                integers=integers,
            )
        )
    return integers


def _is_whole(value: object) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    return not isinstance(value, bool) and isinstance(value, SupportsIndex)


def check_samples(samples: int, n_problems: int | None = None) -> None:
    """Check the number of samples per problem, or of one batch.

    Args:
        samples: number of samples.
        n_problems: number of problems of a sweep; None if all samples run in one batch.

    Raises:
        ValueError: it is not an integer of 1 or more, or too large.
    """
    if isinstance(samples, bool) or not isinstance(samples, int):
        raise ValueError(
            tr(
                "samples is of type {kind}: expected an integer",
                kind=type(samples).__name__,
            )
        )
    if samples < 1:
        raise ValueError(tr("samples is {samples}: expected 1 or more", samples=samples))
    if n_problems is None and samples > MAX_SAMPLES:
        raise ValueError(
            tr(
                "samples is {samples:,}: expected at most {max_samples:,} in one batch",
                samples=samples,
                max_samples=MAX_SAMPLES,
            )
        )
    if n_problems is not None and samples * n_problems > MAX_REPLIES:
        raise ValueError(
            tr(
                "{n_problems:,} problems with {samples:,} samples each are {n_replies:,} "
                "replies: expected at most {max_replies:,} in a sweep",
                n_problems=n_problems,
                samples=samples,
                n_replies=samples * n_problems,
                max_replies=MAX_REPLIES,
            )
        )
