import itertools
import random
import re
from dataclasses import replace

import pytest

from qwen3lab import tiny
from qwen3lab.tiny.world import arithmetic, documents
from qwen3lab.tiny.world.families import FAMILIES
from qwen3lab.tiny.world.problems import split_of

SIGNS = {"加": "+", "减": "-", "乘": "*"}
CIRCLED = "⓪①②③④⑤⑥⑦⑧⑨"


def with_symbols(text):
    return re.sub("|".join(SIGNS), lambda word: SIGNS[word[0]], text)


def last_digit(text):
    """The circled answer, computed with Python integers from the text of the question."""
    first, *rest = re.findall(r"[+*-]?\d", with_symbols(text))
    value = int(first)
    for sign, digit in rest:
        value = {"+": value + int(digit), "-": value - int(digit), "*": value * int(digit)}[sign]
    return CIRCLED[value % 10]


@pytest.mark.parametrize("steps", [1, 2, 7, 16])
def test_every_answer_is_the_last_digit_of_what_the_question_says(steps):
    for problem in tiny.problems("arithmetic", n=200, steps=steps, seed=steps):
        assert problem.answer == last_digit(problem.question), problem.question
        assert problem.steps == steps


def test_the_thinking_is_the_question_with_every_running_value_inserted():
    for problem in tiny.problems("arithmetic", n=200, steps=9, seed=3):
        thinking = problem.thinking
        assert problem.question.startswith(re.sub(f"[{CIRCLED}]", "", thinking))
        assert len(list(shown_values(thinking))) == 9
        for start, chain, value in shown_values(thinking):
            assert last_digit(start + chain) == value
        assert thinking[-1] == problem.answer


def shown_values(text):
    """For each shown value of a tally: the start value, the operations after it, the value."""
    value = text[0]
    for chain, shown in re.findall(f"([^{CIRCLED}]*)([{CIRCLED}])", with_symbols(text)[1:]):
        yield value, chain, shown
        value = str(CIRCLED.index(shown))


def test_a_tally_shows_only_right_values():
    shown = 0
    for problem in tiny.problems("arithmetic", n=200, steps=10, seed=5, split="train"):
        for start, chain, value in shown_values("".join(piece.text for piece in problem.passage)):
            assert value == last_digit(start + chain)
            shown += 1
    # 2,000 steps, each shown with probability 0.55 unless the value answers a held-out problem.
    assert 0.44 < shown / 2000 < 0.55


def test_a_tally_never_contains_the_answer_of_a_held_out_problem():
    for split in ("train", "held-out"):
        for problem in tiny.problems("arithmetic", n=200, steps=10, seed=6, split=split):
            for start, chain, _ in shown_values("".join(piece.text for piece in problem.passage)):
                assert split_of(f"arithmetic:{start}{chain}") == "train"


def test_every_operation_is_a_permutation_of_the_digits():
    for operation in arithmetic.OPERATIONS:
        assert {arithmetic.apply(value, operation) for value in range(10)} == set(range(10))


def test_no_pair_of_neighbouring_operations_occurs_twice_in_a_chain():
    for problem in tiny.problems("arithmetic", n=300, steps=16, seed=2):
        operations = re.findall(r"[+*-]\d", with_symbols(problem.question))
        pairs = list(itertools.pairwise(operations))
        assert len(operations) == 16
        assert len(set(pairs)) == len(pairs)


def test_all_answers_are_equally_frequent():
    answers = [p.answer for p in tiny.problems("arithmetic", n=1000, steps=6, seed=0)]
    shares = [answers.count(digit) / 1000 for digit in CIRCLED]
    # Five standard errors of a share of one tenth are 5 * sqrt(0.09 / 1000) = 0.047.
    assert all(abs(share - 0.1) < 0.047 for share in shares)


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


def test_both_wordings_of_a_problem_belong_to_the_same_split():
    rng = random.Random(0)
    wordings = {}
    for _ in range(500):
        problem = arithmetic.draw(rng, 1, "held-out")
        wordings.setdefault(problem.key, set()).add(problem.question)
    assert max(map(len, wordings.values())) == 2
    train = {arithmetic.draw(rng, 1, "train").question for _ in range(500)}
    assert not train & set().union(*wordings.values())


def test_about_a_tenth_of_all_problems_is_held_out():
    share = sum(split_of(f"arithmetic:{n}") == "held-out" for n in range(5000)) / 5000
    assert abs(share - 26 / 256) < 0.02


def test_an_answer_is_graded_by_its_text():
    problem = tiny.problems("arithmetic", n=1, steps=3)[0]
    wrong = CIRCLED[CIRCLED.index(problem.answer) - 1]
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
def test_unknown_families_splits_and_steps_are_errors(arguments, sentence):
    family = arguments.pop("family")
    with pytest.raises(ValueError, match=sentence):
        tiny.problems(family, n=1, **arguments)
