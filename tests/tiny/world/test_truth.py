"""The truth of a typed question agrees with the problems that the world draws itself."""

import pytest

from qwen3lab import tiny


@pytest.mark.parametrize("family", ["arithmetic", "swaps"])
def test_the_truth_of_a_question_is_that_of_the_problem_or_unknown(family):
    drawn = [p for steps in (1, 3, 6) for p in tiny.problems(family, n=60, steps=steps, seed=3)]
    found = [(tiny.truth(problem.question), problem.truth) for problem in drawn]
    known = [(mine, right) for mine, right in found if mine is not None]
    assert all(mine == right for mine, right in known)
    assert len(known) > len(found) / 2


@pytest.mark.parametrize(
    ("question", "right"),
    [
        ("12+30-7*2+8-15=?", "63"),  # ((12+30-7)*2)+8-15
        ("8加5乘3减12等于几？", "27"),
        ("What is 6 times 7? /no_think", None),
        ("6x7 /no_think", "42"),
        ("3-5=?", None),  # below 0: outside of the world
        ("900+100=?", None),
        ("hello", None),
        ("2*(3+4)=?", None),
    ],
)
def test_sums_are_read_from_left_to_right_within_the_world(question, right):
    assert tiny.truth(question) == right


def test_a_mark_says_right_wrong_or_that_nobody_checked():
    assert tiny.mark("12+30=?", " 42 ") == "right"
    assert tiny.mark("12+30=?", "43") == "wrong"
    assert tiny.mark("hello", "42") == "not checked"
