"""Limits of plans, checked before anything is run or allocated."""

import itertools
from collections.abc import Sequence
from typing import SupportsIndex

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
        raise ValueError(f"a budget is {wrong[0]!r}: expected a whole number of thinking tokens")
    integers = tuple(int(budget) for budget in budgets)  # type: ignore[call-overload]
    if not integers:
        raise ValueError("there is no budget: expected numbers of thinking tokens, ascending")
    if integers[0] < 0:
        raise ValueError(f"a budget is {integers[0]}: expected 0 thinking tokens or more")
    if any(a >= b for a, b in itertools.pairwise(integers)):
        raise ValueError(f"the budgets are {integers}: expected ascending numbers, each once")
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
        raise ValueError(f"samples is of type {type(samples).__name__}: expected an integer")
    if samples < 1:
        raise ValueError(f"samples is {samples}: expected 1 or more")
    if n_problems is None and samples > MAX_SAMPLES:
        raise ValueError(f"samples is {samples:,}: expected at most {MAX_SAMPLES:,} in one batch")
    if n_problems is not None and samples * n_problems > MAX_REPLIES:
        raise ValueError(
            f"{n_problems:,} problems with {samples:,} samples each are {samples * n_problems:,} "
            f"replies: expected at most {MAX_REPLIES:,} in a sweep"
        )
