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
SHOWN = "⓪①②③④⑤⑥⑦⑧⑨"


def in_symbols(text):
    return re.sub("|".join(SIGNS), lambda word: SIGNS[word[0]], text)


def last_digit(text):
    """The answer from the question's text alone, by ordinary integers; in a circle."""
    first, *rest = re.findall(r"[+*-]?\d", in_symbols(text))
    value = int(first)
    for sign, digit in rest:
        value = {"+": value + int(digit), "-": value - int(digit), "*": value * int(digit)}[sign]
    return SHOWN[value % 10]


@pytest.mark.parametrize("steps", [1, 2, 7, 16])
def test_every_answer_is_the_last_digit_of_what_the_question_says(steps):
    for problem in tiny.problems("arithmetic", n=200, steps=steps, seed=steps):
        assert problem.answer == last_digit(problem.question), problem.question
        assert problem.steps == steps


def test_the_thinking_is_the_question_with_every_running_value():
    for problem in tiny.problems("arithmetic", n=200, steps=9, seed=3):
        thinking = problem.thinking
        assert problem.question.startswith(re.sub(f"[{SHOWN}]", "", thinking))
        assert len(list(runs(thinking))) == 9
        for start, chain, value in runs(thinking):
            assert last_digit(start + chain) == value
        assert thinking[-1] == problem.answer


def runs(text):
    """A tally in parts: the value it starts from, the operations after it, the value shown."""
    value = text[0]
    for chain, shown in re.findall(f"([^{SHOWN}]*)([{SHOWN}])", in_symbols(text)[1:]):
        yield value, chain, shown
        value = str(SHOWN.index(shown))


def test_every_value_that_a_tally_shows_is_right():
    shown = 0
    for problem in tiny.problems("arithmetic", n=200, steps=10, seed=5, split="train"):
        for start, chain, value in runs("".join(piece.text for piece in problem.passage)):
            assert value == last_digit(start + chain)
            shown += 1
    # Ten steps each, of which 0.55 are shown, less the tenth that is held out.
    assert 0.44 < shown / 2000 < 0.55


def test_a_tally_never_gives_away_the_answer_of_a_held_out_problem():
    for split in ("train", "held-out"):
        for problem in tiny.problems("arithmetic", n=200, steps=10, seed=6, split=split):
            for start, chain, _ in runs("".join(piece.text for piece in problem.passage)):
                assert split_of(f"arithmetic:{start}{chain}") == "train"


def test_no_operation_forgets_the_value_before_it():
    for operation in arithmetic.OPERATIONS:
        assert {arithmetic.apply(value, operation) for value in range(10)} == set(range(10))


def test_no_two_operations_follow_each_other_twice_so_that_the_place_is_never_in_doubt():
    for problem in tiny.problems("arithmetic", n=300, steps=16, seed=2):
        operations = re.findall(r"[+*-]\d", in_symbols(problem.question))
        pairs = list(itertools.pairwise(operations))
        assert len(operations) == 16
        assert len(set(pairs)) == len(pairs)


def test_answers_are_spread_evenly_so_that_guessing_gains_nothing():
    answers = [p.answer for p in tiny.problems("arithmetic", n=1000, steps=6, seed=0)]
    shares = [answers.count(digit) / 1000 for digit in SHOWN]
    # Five standard errors of a share of one tenth are 5 * sqrt(0.09 / 1000) = 0.047.
    assert all(abs(share - 0.1) < 0.047 for share in shares)


def test_the_same_seed_draws_the_same_problems_and_another_seed_others():
    draws = [tiny.problems("arithmetic", n=50, steps=5, seed=seed) for seed in (7, 7, 8)]
    assert draws[0] == draws[1] != draws[2]


def test_training_documents_hold_no_held_out_problem(tiny_tokenizer, monkeypatch):
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


def test_the_split_is_of_the_problem_and_not_of_its_wording():
    rng = random.Random(0)
    wordings = {}
    for _ in range(500):
        problem = arithmetic.draw(rng, 1, "held-out")
        wordings.setdefault(problem.key, set()).add(problem.question)
    assert max(map(len, wordings.values())) == 2
    train = {arithmetic.draw(rng, 1, "train").question for _ in range(500)}
    assert not train & set().union(*wordings.values())


def test_a_tenth_or_so_of_all_problems_is_held_out():
    share = sum(split_of(f"arithmetic:{n}") == "held-out" for n in range(5000)) / 5000
    assert abs(share - 26 / 256) < 0.02


def test_an_answer_is_graded_by_its_text():
    problem = tiny.problems("arithmetic", n=1, steps=3)[0]
    wrong = SHOWN[SHOWN.index(problem.answer) - 1]
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
