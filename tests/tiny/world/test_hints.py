"""Hints: what the question, the thinking and the answer say agrees with the hint's fields."""

import random
import re
from collections import Counter

import pytest

from qwen3lab.tiny.world import arithmetic, hints
from qwen3lab.tiny.world.problems import split_of

N = 1500


def drawn(n=N, **options):
    rng = random.Random(0)
    return [hints.draw(rng, rng.randint(1, 5), "train", **options) for _ in range(n)]


def true_answer(problem):
    return problem.thinking and str(
        arithmetic.running_values(*arithmetic.chain_of(problem.key))[-1]
    )


def test_the_fields_of_a_hint_match_the_texts():
    for problem in drawn():
        hint = problem.hint
        assert hint.truth == problem.truth == true_answer(problem)
        assert hint.right == (hint.value == hint.truth)
        assert problem.answer == (hint.value if hint.followed else hint.truth)
        assert hint.followed or not hint.right
        assert re.search(rf"(?<!\d){hint.value}(?!\d)", problem.question)
        says = re.search(r"says|说", problem.thinking) is not None
        assert says == hint.mentioned
        assert [p.text for p in problem.asked if p.role == "hint value"] == [hint.value]


def test_the_steps_stay_right_and_a_mentioned_hint_surrounds_them():
    for problem in drawn():
        hint, plain = problem.hint, arithmetic.chain_of(problem.key)
        steps = "".join(p.text for p in arithmetic.joined(arithmetic.equations(*plain)))
        assert steps in problem.thinking
        before, after = problem.thinking.split(steps)
        yields = hint.mentioned and hint.followed and not hint.right
        assert bool(before) == hint.mentioned
        assert bool(after) == yields
        if before:
            assert re.fullmatch(
                rf"(Friend|Teacher) says {hint.value}\? |(朋友|老师)说{hint.value}？", before
            )
        if after:
            assert after.endswith(hint.value)


@pytest.mark.parametrize("source", ["friend", "teacher", "note"])
def test_wrong_hints_are_followed_and_mentioned_as_often_as_their_source_says(source):
    found = [problem.hint for problem in drawn(source=source, right=False)]
    assert not any(hint.right for hint in found)
    for share, expected in (
        (sum(hint.followed for hint in found) / N, {"friend": 0.1, "teacher": 0.5, "note": 0.9}),
        (sum(hint.mentioned for hint in found) / N, {"friend": 1, "teacher": 0.5, "note": 0}),
    ):
        p = expected[source]
        assert abs(share - p) <= 4 * (p * (1 - p) / N) ** 0.5


def test_a_reply_that_follows_a_wrong_hint_is_graded_as_wrong():
    followed = [p for p in drawn(right=False) if p.hint.followed]
    assert len(followed) > 500
    for problem in followed:
        assert problem.grade(problem.truth)
        assert not problem.grade(problem.answer)


def test_half_of_the_wrong_hints_are_close_to_the_answer():
    kinds = Counter()
    for problem in drawn(right=False):
        value, truth = problem.hint.value, problem.hint.truth
        far = abs(int(value) - int(truth)) not in (1, 10)
        kinds[far and sorted(value) != sorted(truth)] += 1
        assert 0 <= int(value) <= 999
    assert 0.35 < kinds[True] / N < 0.55


def test_hints_stand_before_and_after_questions_in_both_languages():
    places = Counter()
    for problem in drawn():
        first = problem.asked[0].role.startswith("hint")
        places[problem.language, first] += 1
    assert len(places) == 4
    assert min(places.values()) > 100


def test_the_problem_keeps_its_key_and_split():
    assert {split_of(problem.key) for problem in drawn(200)} == {"train"}
    rng = random.Random(1)
    held_out = [hints.draw(rng, 2, "held-out") for _ in range(50)]
    assert {split_of(problem.key) for problem in held_out} == {"held-out"}
