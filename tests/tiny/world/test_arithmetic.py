import itertools
import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies

from qwen3lab import tiny
from qwen3lab.tiny.world import arithmetic, documents
from qwen3lab.tiny.world.families import FAMILIES
from qwen3lab.tiny.world.problems import split_of

WORDS = {
    "加": "+",
    "减": "-",
    "乘": "*",
    "plus": "+",
    "minus": "-",
    "times": "*",
    "×": "*",
    "x": "*",
}
CHAIN = re.compile(r"\d+(?:[+*-]\d+)*")
SEEDS = strategies.integers(0, 10**6)
STEPS = strategies.integers(1, 10)


def as_symbols(question):
    """The chain of a question as symbols without spaces and brackets."""
    text = re.sub("|".join(WORDS), lambda word: WORDS[word[0]], question)
    return max(CHAIN.findall(re.sub(r"[\s()]", "", text)), key=len)


def left_to_right(chain):
    """Every running value of a chain, computed by Python's evaluation of one step at a time."""
    first, *rest = re.findall(r"[+*-]?\d+", chain)
    values = [int(first)]
    for operation in rest:
        values.append(eval(f"{values[-1]}{operation}"))
    return values


def problem(seed, steps, split="train"):
    return arithmetic.draw(random.Random(seed), steps, split)


@given(SEEDS, STEPS)
@settings(max_examples=300, deadline=None)
def test_the_question_thinking_and_answer_of_every_problem_agree(seed, steps):
    drawn = problem(seed, steps)
    chain = as_symbols(drawn.question)
    values = left_to_right(chain)
    assert drawn.key == f"arithmetic:{chain}"
    assert drawn.steps == steps == len(values) - 1
    assert drawn.answer == str(values[-1])
    operations = re.findall(r"[+*-]\d+", chain)
    expected = [
        f"{a}{op}={b}" for a, op, b in zip(values[:-1], operations, values[1:], strict=True)
    ]
    assert drawn.thinking == ", ".join(expected)


@given(SEEDS, STEPS)
@settings(max_examples=300, deadline=None)
def test_all_values_and_operands_are_in_range(seed, steps):
    chain = as_symbols(problem(seed, steps).question)
    values = left_to_right(chain)
    assert all(0 <= value <= 999 for value in values)
    for before, (sign, operand) in zip(values, re.findall(r"([+*-])(\d+)", chain), strict=False):
        assert 0 <= int(operand) <= 99
        assert sign != "*" or min(before, int(operand)) < 10


def test_brackets_say_the_order_from_left_to_right():
    rng, found = random.Random(0), 0
    for _ in range(1000):
        drawn = arithmetic.draw(rng, rng.randint(2, 10), "train")
        if drawn.question.startswith("("):
            text = re.sub(r"[=?]", "", drawn.question).replace("x", "*").replace("×", "*")
            assert eval(text) == int(drawn.answer), drawn.question
            found += 1
    assert found > 50


def test_half_of_the_problems_are_symbols_without_brackets():
    drawn = [problem(seed, 4) for seed in range(1000)]
    plain = [re.fullmatch(r"[\d\s+*x×=?-]+", p.question) is not None for p in drawn]
    # Four standard errors of a share of one half are 4 * sqrt(0.25 / 1000) = 0.063.
    assert abs(sum(plain) / 1000 - 0.5) < 0.063


def test_every_kind_of_wording_occurs():
    questions = {problem(seed, 2).question for seed in range(3000)}
    for pattern in (
        r"\d+[+-]\d+[+-]\d+=\?",
        r"\d+ \+ \d+ - \d+ = \?",
        r"\d+x\d+.*",
        r"\d+ × \d+.*",
        r"What is \d+\+.*\?",
        r"what's .*",
        r"How much is \d+ plus \d+ times \d+\?",
        r"Compute .*\.",
        r"Please calculate .*",
        r".* = what\?",
        r"\d+加\d+[加减乘]\d+等于几？",
        r"\d+[+]\d+.*等于多少？",
        r"计算\d+.*。",
        r"请问\d+.*是多少？",
    ):
        assert any(re.fullmatch(pattern, question) for question in questions), pattern


def test_a_passage_states_right_results_of_training_problems_only():
    stated = 0
    for split, seed in itertools.product(("train", "held-out"), range(200)):
        drawn = problem(seed, 3, split)
        text = "".join(piece.text for piece in drawn.passage)
        assert text.endswith(".\n")
        equations = text.removesuffix(".\n").split(", ")
        assert 3 <= len(equations) <= 6
        for equation in equations:
            chain, result = equation.split("=")
            assert left_to_right(chain)[1:] == [int(result)]
            assert split_of(f"arithmetic:{chain}") == "train"
            stated += 1
        known = [piece.text for piece in drawn.passage if piece.known]
        assert known == [equation.split("=")[1] for equation in equations]
    assert stated > 1200


def test_small_and_large_values_are_both_frequent():
    answers = [int(problem(seed, 1).answer) for seed in range(1000)]
    shares = [sum(len(str(a)) == n for a in answers) / 1000 for n in (1, 2, 3)]
    assert shares[0] > 0.1 and shares[1] > 0.3 and shares[2] > 0.15
    assert answers.count(0) / 1000 < 0.07


def test_starts_and_operands_have_the_numbers_of_digits_that_they_should():
    chains = [as_symbols(problem(seed, 1).question) for seed in range(2000)]
    starts = [re.match(r"\d+", chain)[0] for chain in chains]
    # Starts of three digits are a tenth of the draws; few of their chains are redrawn.
    assert abs(sum(len(start) == 3 for start in starts) / 2000 - 0.1) < 0.03
    assert abs(sum(len(start) == 1 for start in starts) / 2000 - 0.36) < 0.05


def test_no_pair_of_neighbouring_operations_occurs_twice_in_a_chain():
    for seed in range(300):
        operations = re.findall(r"[+*-]\d+", as_symbols(problem(seed, 10).question))
        pairs = list(itertools.pairwise(operations))
        assert len(operations) == 10
        assert len(set(pairs)) == len(pairs)


def test_the_same_seed_draws_the_same_problems_and_another_seed_others():
    draws = [tiny.problems("arithmetic", n=50, steps=5, seed=seed) for seed in (7, 7, 8)]
    assert draws[0] == draws[1] != draws[2]


def test_training_documents_contain_no_held_out_problem(tiny_tokenizer, monkeypatch):
    seen = []

    def spied(family):
        def draw(rng, steps, split):
            seen.append(family.draw(rng, steps, split))
            return seen[-1]

        return replace(family, draw=draw)

    spies = {name: spied(family) for name, family in FAMILIES.items()}
    monkeypatch.setattr(documents, "FAMILIES", spies)
    writer, rng = documents.Writer(tiny_tokenizer, "Time is up."), random.Random(0)
    for _ in range(300):
        writer.write(rng)
    assert {problem.family for problem in seen} == set(FAMILIES)
    assert {split_of(problem.key) for problem in seen} == {"train"}


def test_all_wordings_of_a_problem_belong_to_the_same_split():
    train, held_out = (
        {as_symbols(problem(seed, 1, split).question) for seed in range(3000)}
        for split in ("train", "held-out")
    )
    assert len(held_out) > 500
    assert not train & held_out


def test_about_a_tenth_of_all_problems_is_held_out():
    share = sum(split_of(f"arithmetic:{n}") == "held-out" for n in range(5000)) / 5000
    assert abs(share - 26 / 256) < 0.02


def test_an_answer_is_graded_by_its_text():
    (drawn,) = tiny.problems("arithmetic", n=1, steps=3)
    assert drawn.grade(f" {drawn.answer}\n")
    assert not drawn.grade(str(int(drawn.answer) + 1))
    assert not drawn.grade(f"{drawn.answer}0")
    assert not drawn.grade("")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"family": "poetry", "steps": 1}, "no family 'poetry': choose from arithmetic"),
        ({"family": "arithmetic", "steps": 0}, "0 steps does not exist: expected 1 to 10"),
        ({"family": "arithmetic", "steps": 11}, "11 steps does not exist"),
        ({"family": "arithmetic", "steps": 1, "split": "test"}, "no split 'test'"),
    ],
)
def test_unknown_families_splits_and_steps_are_errors(arguments, sentence):
    family = arguments.pop("family")
    with pytest.raises(ValueError, match=sentence):
        tiny.problems(family, n=1, **arguments)


@given(SEEDS)
@settings(max_examples=100, deadline=None)
def test_a_quiz_answers_training_questions_of_one_or_two_steps(seed):
    pieces = arithmetic.quiz(random.Random(seed))
    lines = "".join(piece.text for piece in pieces).splitlines()
    answers = [piece.text for piece in pieces if piece.known]
    assert 3 <= len(lines) <= 8
    for line, answer in zip(lines, answers, strict=True):
        question, _, given_answer = line.rpartition(" ")
        values = left_to_right(chain := as_symbols(question))
        assert given_answer == answer == str(values[-1])
        assert split_of(f"arithmetic:{chain}") == "train" and 2 <= len(values) <= 3
