"""Wrong turns: mistakes that are noticed, checks, and the tokens of "Wait"."""

import random
import re

import pytest

from qwen3lab.tiny.world import arithmetic, swaps
from qwen3lab.tiny.world.problems import char_labels
from qwen3lab.tiny.world.wrong_turns import with_check, with_wrong_turn

N = 600


@pytest.fixture(scope="module")
def turned():
    rng = random.Random(0)
    plain = [arithmetic.draw(rng, rng.randint(1, 6), "train") for _ in range(N)]
    return [(problem, with_wrong_turn(rng, problem)) for problem in plain]


def steps(text):
    """The chain and the stated result of each step, in order."""
    return re.findall(r"(\d+[+*-]\d+)=(\d+)", text)


def test_the_step_before_wait_is_repeated_after_it_and_right_then(turned):
    for plain, problem in turned:
        before, after = problem.thinking.split("\nWait, ")
        (chain, first), (again, second) = steps(before)[-1], steps(after)[0]
        assert chain == again
        assert eval(chain) == int(second)
        roles = {piece.role for piece in problem.thought}
        assert ("wrong value" in roles) == (first != second)
        assert {"wait", "check"} <= roles
        without = steps(before)[:-1] + steps(after)
        assert without == steps(plain.thinking)
        assert problem.answer == plain.answer


def test_most_turns_correct_a_mistake_and_checks_stand_mostly_at_the_end(turned):
    wrong = [p for _, p in turned if any(piece.role == "wrong value" for piece in p.thought)]
    checks = [p for _, p in turned if p not in wrong]
    assert abs(len(wrong) / N - 0.7) < 4 * (0.7 * 0.3 / N) ** 0.5
    at_end = [p for p in checks if len(steps(p.thinking.split("Wait")[1])) == 1]
    assert len(at_end) / len(checks) > 0.6


def test_mistakes_and_checks_are_no_predictable_text_but_corrections_are(turned):
    for _, problem in turned:
        labels = char_labels(problem, "thinking")
        by_role = {}
        for label in labels:
            by_role.setdefault(label.role, set()).add(label.known)
        corrects = "wrong value" in by_role
        assert by_role.get("wrong value", {False}) == {False}
        assert by_role["wait"] == {corrects}
        assert by_role["check"] == {True}


def test_wait_has_the_tokens_that_the_lab_inserts_in_place_of_the_end_of_thinking(
    turned, tiny_tokenizer
):
    inserted = tiny_tokenizer.encode("Wait", add_special_tokens=False)
    newline = tiny_tokenizer.encode("\n", add_special_tokens=False)
    (end,) = tiny_tokenizer.encode("</think>", add_special_tokens=False)
    for plain, problem in turned:
        ids = tiny_tokenizer.encode(problem.thinking, add_special_tokens=False)
        places = [n for n in range(1, len(ids)) if ids[n : n + len(inserted)] == inserted]
        assert len(places) == 1
        assert ids[places[0] - 1 : places[0]] == newline
        closed = tiny_tokenizer.encode(f"{plain.thinking}\n</think>\n\n", add_special_tokens=False)
        assert closed[closed.index(end) - 1] == newline[0]


def test_a_check_repeats_the_last_line():
    rng = random.Random(0)
    for _ in range(50):
        plain = swaps.draw(rng, rng.randint(1, 4), "train")
        last = plain.thinking.split("\n")[-1]
        assert with_check(plain).thinking == f"{plain.thinking}\nWait, {last}"
