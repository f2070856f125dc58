import random
import re

import pytest

from qwen3lab import tiny
from qwen3lab.tiny import arithmetic
from qwen3lab.tiny.documents import Writer
from qwen3lab.tiny.problems import split_of

SIGNS = {"add": "+", "plus": "+", "subtract": "-", "minus": "-", "times": "*"}


def last_digit(question):
    """The answer from the question's text alone, by ordinary integers."""
    text = re.sub("|".join(SIGNS), lambda word: SIGNS[word[0]], question)
    first, *rest = re.findall(r"[+*-]?\d", re.sub(r"[^\d+*-]", "", text))
    value = int(first)
    for sign, digit in rest:
        value = {"+": value + int(digit), "-": value - int(digit), "*": value * int(digit)}[sign]
    return str(value % 10)


@pytest.mark.parametrize("steps", [1, 2, 7, 16])
def test_every_answer_is_the_last_digit_of_what_the_question_says(steps):
    for problem in tiny.problems("arithmetic", n=200, steps=steps, seed=steps):
        assert problem.answer == last_digit(problem.question), problem.question
        assert problem.steps == steps


def test_every_line_of_the_thinking_is_right_and_the_last_gives_the_answer():
    for problem in tiny.problems("arithmetic", n=200, steps=9, seed=3):
        lines = problem.thinking.split("\n")
        assert len(lines) == 9
        values = [re.fullmatch(r"(\d)([+*-])(\d)->(\d)", line).groups() for line in lines]
        for left, sign, right, result in values:
            assert last_digit(f"{left}{sign}{right}") == result
        assert [v[3] for v in values[:-1]] == [v[0] for v in values[1:]]
        assert values[-1][3] == problem.answer


def test_no_operation_forgets_the_value_before_it():
    operations = {("+", d) for d in range(1, 10)} | {("-", d) for d in range(1, 10)}
    operations |= {("*", d) for d in arithmetic.FACTORS}
    for operation in operations:
        assert {arithmetic.apply(value, operation) for value in range(10)} == set(range(10))


def test_answers_are_spread_evenly_so_that_guessing_gains_nothing():
    answers = [p.answer for p in tiny.problems("arithmetic", n=1000, steps=6, seed=0)]
    shares = [answers.count(str(digit)) / 1000 for digit in range(10)]
    # Five standard errors of a share of one tenth are 5 * sqrt(0.09 / 1000) = 0.047.
    assert all(abs(share - 0.1) < 0.047 for share in shares)


def test_the_same_seed_draws_the_same_problems_and_another_seed_others():
    draws = [tiny.problems("arithmetic", n=50, steps=5, seed=seed) for seed in (7, 7, 8)]
    assert draws[0] == draws[1] != draws[2]


def test_training_documents_hold_no_held_out_problem(tiny_tokenizer, monkeypatch):
    seen = []
    original = arithmetic.draw

    def spy(rng, steps, split):
        problem = original(rng, steps, split)
        seen.append(problem)
        return problem

    monkeypatch.setattr(arithmetic, "draw", spy)
    writer, rng = Writer(tiny_tokenizer, "Time is up."), random.Random(0)
    for _ in range(150):
        writer.write(rng)
    assert len(seen) >= 150
    held_out = {
        p.key for steps in (1, 2, 3) for p in tiny.problems("arithmetic", n=100, steps=steps)
    }
    assert {split_of(problem.key) for problem in seen} == {"train"}
    assert not held_out & {problem.key for problem in seen}


def test_the_split_is_of_the_problem_and_not_of_its_wording():
    rng = random.Random(0)
    wordings = {}
    for _ in range(500):
        problem = arithmetic.draw(rng, 1, "held-out")
        wordings.setdefault(problem.key, set()).add(problem.question)
    assert max(map(len, wordings.values())) > 3
    train = {arithmetic.draw(rng, 1, "train").question for _ in range(500)}
    assert not train & set().union(*wordings.values())


def test_a_tenth_or_so_of_all_problems_is_held_out():
    share = sum(split_of(f"arithmetic:{n}") == "held-out" for n in range(5000)) / 5000
    assert abs(share - 26 / 256) < 0.02


def test_an_answer_is_graded_by_its_text():
    problem = tiny.problems("arithmetic", n=1, steps=3)[0]
    wrong = str((int(problem.answer) + 1) % 10)
    assert problem.grade(f" {problem.answer}\n")
    assert not problem.grade(wrong)
    assert not problem.grade(f"{problem.answer}{wrong}")
    assert not problem.grade("")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"family": "poetry", "steps": 1}, "no family 'poetry': choose from arithmetic"),
        ({"family": "arithmetic", "steps": 0}, "0 steps does not exist: expected 1 to 16"),
        ({"family": "arithmetic", "steps": 17}, "17 steps does not exist"),
        ({"family": "arithmetic", "steps": 1, "split": "test"}, "no split 'test'"),
    ],
)
def test_what_does_not_exist_is_refused_in_one_sentence(arguments, sentence):
    family = arguments.pop("family")
    with pytest.raises(ValueError, match=sentence):
        tiny.problems(family, n=1, **arguments)
