import pytest

from qwen3lab.analysis.proportions import Share
from qwen3lab.tiny.evaluation.targets import distinct_levels, never_falls


def shares(*hits, total=500):
    return [Share(n, total) for n in hits]


def test_distinct_levels_have_non_overlapping_intervals():
    # The 95% interval of a share of 500 extends about 0.04, or 20 hits, to each side.
    assert distinct_levels(shares(0, 100, 200, 300, 400, 500)) == 6
    assert distinct_levels(shares(100, 101, 102, 103)) == 1
    assert distinct_levels(shares(100, 500, 100, 500)) == 2


def test_a_decrease_within_the_intervals_is_not_a_fall():
    assert never_falls(shares(100, 95, 200, 199, 400))
    assert not never_falls(shares(100, 200, 120))


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [
        # Newcombe 1998, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_equal_published_wilson_intervals(hits, total, low, high):
    assert Share(hits, total).interval == pytest.approx((low, high), abs=1e-4)
