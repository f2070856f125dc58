import math

import pytest

from qwen3lab.analysis.budgets import curve, levels, natural_lengths
from qwen3lab.analysis.flops import reply_flops
from qwen3lab.thinking import Answer, Attempt, Sweep
from qwen3lab.thinking.swept import SweepPlan
from tests.reference import small_config

CONFIG = small_config()


def attempt(number, level, *answers, at_once=None):
    """An attempt with answers (right, thinking tokens, stop), each with 5 further tokens."""

    def answer(thinking, stop):
        return Answer("x", thinking, 1, thinking + 5, stop, cut=stop == "budget")

    return Attempt(
        problem=number,
        sample=0,
        level=level,
        prompt_tokens=10,
        thinking="",
        answers=tuple(answer(thinking, stop) for _, thinking, stop in answers),
        right=tuple(right for right, _, _ in answers),
        at_once=None if at_once is None else answer(0, "natural"),
        right_at_once=at_once,
        prompt_tokens_at_once=14,
    )


def swept(*attempts, budgets=(2, 8)):
    plan = SweepPlan("m", "float32", CONFIG, "", len(attempts), budgets, 1, 0, None, 9, True)
    return Sweep(plan, attempts)


@pytest.fixture
def sweep():
    return swept(
        attempt(0, "2", (True, 2, "budget"), (True, 4, "natural"), at_once=True),
        attempt(1, "10", (False, 2, "budget"), (True, 8, "budget"), at_once=False),
        attempt(2, "10", (False, 2, "budget"), (False, 6, "natural"), at_once=False),
        attempt(3, "Level 1", (True, 1, "natural"), (True, 1, "natural")),
    )


def test_a_point_counts_right_answers_cuts_and_costs(sweep):
    found = curve(sweep)
    short, long = found.points
    assert (short.budget, short.right.hits, short.right.total, short.cut.hits) == (2, 2, 4, 3)
    assert (long.budget, long.right.hits, long.cut.hits) == (8, 3, 1)
    assert long.thinking_tokens == (4 + 8 + 6 + 1) / 4
    assert long.reply_tokens == long.thinking_tokens + 5
    each = [reply_flops(CONFIG, 10, thinking + 5) for thinking in (4, 8, 6, 1)]
    assert long.flops == sum(each) / 4
    assert long.flops_per_right == pytest.approx(sum(each) / 3)
    assert long.tokens_per_right == pytest.approx((19 + 20) / 3)
    assert (found.name, found.active_params) == ("m", CONFIG.n_active_params)


def test_answers_without_thinking_are_counted_if_the_sweep_has_them(sweep):
    quick = curve(sweep).at_once
    assert (quick.budget, quick.right.hits, quick.right.total) == (None, 1, 3)
    assert quick.thinking_tokens == 0
    assert curve(swept(attempt(0, "1", (True, 1, "natural"), (True, 1, "natural")))).at_once is None


def test_levels_are_in_the_order_of_their_numbers(sweep):
    assert levels(sweep) == ["Level 1", "2", "10"]
    hard = curve(sweep, level="10")
    assert hard.name == "10"
    assert [point.right.total for point in hard.points] == [2, 2]
    assert hard.points[0].tokens_per_right == math.inf


def test_natural_lengths_leave_out_cut_replies(sweep):
    found = {lengths.level: lengths for lengths in natural_lengths(sweep)}
    assert (found["10"].tokens, found["10"].cut) == ((6,), 1)
    assert (found["2"].tokens, found["2"].cut) == ((4,), 0)


def test_an_unknown_level_is_refused(sweep):
    with pytest.raises(ValueError, match=r"no answer of level '7': its levels are"):
        curve(sweep, level="7")
    with pytest.raises(ValueError, match="the sweep has no answer"):
        curve(swept())
