"""The figure of a pruning curve holds the means of its points, with a band of random choices."""

import pytest

from qwen3lab import figures
from qwen3lab.experiments.pruning import PruningCurve, PruningPoint
from qwen3lab.figures.theme import traces


def point(score, seed, share, loss, **errors):
    return PruningPoint(score, seed, round(8 * share), share, {"a": loss, "b": loss + 1}, errors)


CURVE = PruningCurve(
    (
        point("re<b>ap", 0, 1.0, 0.0, sums=0.1),
        point("re<b>ap", 0, 0.5, 1.0, sums=0.2),
        point("random", 0, 0.5, 2.0, sums=0.5),
        point("random", 1, 0.5, 4.0, sums=0.75),
    )
)


def test_lines_are_means_over_groups_and_random_choices_a_band():
    low, high, mean, line = traces(figures.pruning_curve(CURVE))
    assert (line.name, tuple(line.x), tuple(line.y)) == ("re&lt;b&gt;ap", (50, 100), (1.5, 0.5))
    assert tuple(low.y) == (2.5, 0.5)
    assert tuple(high.y) == (4.5, 0.5)
    assert tuple(mean.y) == (3.5, 0.5)


def test_random_centroids_of_merging_have_a_band_of_their_own():
    merged = (
        point("random, merged", 0, 0.5, 6.0, sums=0.5),
        point("random, merged", 1, 0.5, 8.0, sums=0.5),
        point("reap, merged", 0, 0.5, 3.0, sums=0.5),
    )
    drawn = traces(figures.pruning_curve(CURVE + PruningCurve(merged)))
    named = {each.name: tuple(each.y) for each in drawn if each.showlegend is not False}
    assert named["random choice"] == (3.5, 0.5)
    assert named["random choice, merged"] == (7.5, 0.5)
    assert named["reap, merged"] == (3.5,)
    assert tuple(drawn[3].y) == (6.5, 0.5)
    assert tuple(drawn[4].y) == (8.5, 0.5)


def test_errors_are_shares_and_a_curve_without_problems_says_so():
    line = traces(figures.pruning_curve(CURVE, measure="errors"))[-1]
    assert tuple(line.y) == (0.2, 0.1)
    bare = PruningCurve((PruningPoint("reap", 0, 8, 1.0, {"a": 0.0}, {}),))
    figure = figures.pruning_curve(bare, measure="errors")
    assert "no model was measured with problems" in figure.layout.annotations[0].text
    with pytest.raises(ValueError, match="measure is 'accuracy': choose from loss, errors"):
        figures.pruning_curve(CURVE, measure="accuracy")
