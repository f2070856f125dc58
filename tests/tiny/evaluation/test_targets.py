from dataclasses import replace

import pytest

from qwen3lab.analysis.proportions import Share
from qwen3lab.tiny.evaluation.border import Border
from qwen3lab.tiny.evaluation.internals import Sink
from qwen3lab.tiny.evaluation.sums import Accuracies
from qwen3lab.tiny.evaluation.targets import distinct_levels, never_falls, targets
from tests.tiny.evaluation.made_up import ALL, FEW, MOST, evaluation, swayed


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


GOOD = evaluation()
HINTS = {"friend": swayed(10, 99), "teacher": swayed(51, 48), "note": swayed(90, 0)}
EQUAL = {"friend": swayed(50, 99), "teacher": swayed(51, 48), "note": swayed(90, 0)}


def missed(found):
    return {target.measure for target in targets(found) if not target.met}


def test_good_numbers_meet_all_targets():
    assert missed(GOOD) == set()
    assert len(targets(GOOD)) == len({target.measure for target in targets(GOOD)}) == 31


def changed(field, family, steps, share):
    by_family = getattr(GOOD, field)
    return {field: {**by_family, family: {**by_family[family], steps: share}}}


@pytest.mark.parametrize(
    ("changes", "measure"),
    [
        ({"first": [*GOOD.first[:5], replace(GOOD.first[5], answer="?")]}, "6 first questions"),
        (
            {"sums": replace(GOOD.sums, one_digit=Accuracies(ALL, Share(247, 255)))},
            "all sums of two numbers of one digit",
        ),
        (changed("thinking", "arithmetic", 10, Share(94, 100)), "thinking, arithmetic of 10"),
        (changed("thinking", "swaps", 6, Share(94, 100)), "with thinking, swaps of 6"),
        (changed("thinking", "code", 3, Share(94, 100)), "programs at their worst length (3)"),
        (changed("at_once", "arithmetic", 1, Share(89, 100)), "thinking, arithmetic of 1 step"),
        ({"questions": {"stories": Share(89, 100), "lists": ALL}}, "questions about stories"),
        ({"stopped": Share(97, 100)}, "end with an end token"),
        (
            {"border": Border({"m": {"en": ALL, "zh": Share(94, 100)}}, GOOD.border.inside)},
            "from outside with that reply, Chinese",
        ),
        (
            {"border": Border(GOOD.border.outside, {"en": Share(11, 1000), "zh": Share(0, 9)})},
            "of the world with that reply, English",
        ),
        ({"hints": {"with thinking": HINTS, "without thinking": EQUAL}}, "hint, without thinking"),
        ({"turns": replace(GOOD.turns, waits=FEW)}, "that “Wait” follows"),
        ({"turns": replace(GOOD.turns, recovered=FEW)}, "accuracy after a wrong step"),
        ({"turns": replace(GOOD.turns, extended=FEW)}, "in place of the first `</think>`"),
        ({"surplus": {"arithmetic": 0.01, "lists": 0.06}}, "worst family, lists"),
        ({"sink": Sink([[0.5, 0.4]], 9)}, "attention of a head to the first token"),
    ],
)
def test_each_behaviour_has_a_target_that_is_missed_alone(changes, measure):
    [found] = missed(evaluation(**changes))
    assert measure in found


def test_both_modes_of_outside_count_together():
    outside = {
        "with thinking": {"en": ALL, "zh": ALL},
        "without thinking": {"en": MOST, "zh": MOST},
    }
    [found] = [
        target
        for target in targets(evaluation(border=Border(outside, GOOD.border.inside)))
        if "from outside" in target.measure and "English" in target.measure
    ]
    assert found.found == str(Share(197, 200)) and found.target == "at least 0.95"


def test_a_dense_model_has_no_targets_for_experts():
    dense = evaluation(least_load=[], most_load=[], information=[])
    kinds = {target.behaviour for target in targets(GOOD)}
    assert kinds - {target.behaviour for target in targets(dense)} == {
        "all experts are used",
        "experts specialise",
    }


def test_what_was_not_measured_has_no_target():
    old = evaluation(sums=None, border=None, hints={}, turns=None, sink=None, first=[], order=[])
    gone = {t.behaviour for t in targets(GOOD)} - {t.behaviour for t in targets(old)}
    assert gone == {
        "first questions are answered",
        "the model says what it does not know",
        "hints sway the reply in known degree",
        "wrong turns are noticed",
        "thinking can be extended",
        "an attention sink",
    }
