import pytest

from qwen3lab.analysis.proportions import Share
from qwen3lab.tiny.evaluation.targets import distinct_levels, never_falls


def shares(*hits, total=500):
    return [Share(n, total) for n in hits]


def test_levels_are_counted_that_lie_apart():
    # Intervals of 500 are about 0.04 wide to each side in the middle: 100, 150, 200 lie apart
    # from every second one.
    assert distinct_levels(shares(0, 100, 200, 300, 400, 500)) == 6
    assert distinct_levels(shares(100, 101, 102, 103)) == 1
    assert distinct_levels(shares(100, 500, 100, 500)) == 2


def test_a_fall_within_the_intervals_is_none():
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
def test_intervals_are_wilsons(hits, total, low, high):
    assert Share(hits, total).interval == pytest.approx((low, high), abs=1e-4)
