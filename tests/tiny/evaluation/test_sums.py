"""Sums by operands, sign and wording: what is asked, and what is counted."""

import random
import re

import pytest
from tqdm.auto import tqdm

from qwen3lab.tiny.evaluation.sums import WORDINGS, draw_sums, measure_sums, wording_of
from qwen3lab.tiny.world import arithmetic
from qwen3lab.tiny.world.problems import split_of
from tests.tiny.evaluation.known_lab import KnownLab, solver


@pytest.fixture(scope="module")
def asked():
    return draw_sums(10, random.Random(1))


def listed(by_operands):
    return [p for by_sign in by_operands.values() for found in by_sign.values() for p in found]


def test_sums_of_a_kind_are_different_and_held_out(asked):
    for digits, by_sign in asked.by_operands.items():
        longest = {"one digit": 1, "two digits": 2, "three digits": 3}[digits]
        for sign, problems in by_sign.items():
            chains = [problem.key.removeprefix("arithmetic:") for problem in problems]
            assert len(set(chains)) == len(chains) <= 10
            for chain in chains:
                numbers = re.fullmatch(rf"(\d+){re.escape(sign)}(\d+)", chain).groups()
                assert max(map(len, numbers)) == longest
                assert split_of(f"arithmetic:{chain}") == "held-out"
    assert all(len(found) == 10 for found in asked.by_operands["two digits"].values())


def test_all_sums_of_two_numbers_of_one_digit_are_asked_once(asked):
    # 100 additions, 100 multiplications, and the 55 subtractions that are not below zero.
    assert len({problem.key for problem in asked.one_digit}) == len(asked.one_digit) == 255
    assert all(re.fullmatch(r"\d[+*x×-]\d( ?=)?( ?\?)?", p.question) for p in asked.one_digit)


@pytest.mark.parametrize(
    ("pattern", "wording"),
    [
        (r"\d+[+*x×-]\d+[+*x×-]\d+( ?=)?( ?\?)?", "compact"),
        (r"\d+ [+*x×-] \d+ [+*x×-] \d+( ?=)?( ?\?)?", "spaced"),
        (r"\(\d+ ?[+*x×-] ?\d+\) ?[+*x×-] ?\d+( ?=)?( ?\?)?", "brackets"),
        (r"(?=.*[a-wyzA-Z]).*", "english"),
        (r".*[一-鿿].*", "chinese"),
    ],
)
def test_the_wordings_are_what_they_are_called(asked, pattern, wording):
    assert len(asked.by_wording[wording]) == 10
    for problem in asked.by_wording[wording]:
        assert re.fullmatch(pattern, problem.question), problem.question
        assert problem.steps == 2 and split_of(problem.key) == "held-out"


def test_every_wording_of_the_family_has_a_name():
    rng = random.Random(3)
    found = {wording_of(arithmetic.draw(rng, 3, "train")) for _ in range(300)}
    assert found == set(WORDINGS)


def test_shares_are_those_of_the_replies(asked, tiny_tokenizer):
    """A lab that knows everything with thinking, and without thinking no subtraction."""
    everything = [*listed(asked.by_operands), *asked.one_digit]
    everything += [p for problems in asked.by_wording.values() for p in problems]
    right = solver(everything)

    def reply(question, options):
        knows = options["thinking"] or not re.search(r"-|minus|减", question)
        return right(question, options) if knows else ("", "?")

    bar = tqdm(disable=True)
    found = measure_sums(KnownLab(tiny_tokenizer, reply), asked, bar)
    assert asked.n_replies == 2 * len(everything)
    for by_sign in found.by_operands.values():
        for sign, pair in by_sign.items():
            assert pair.thinking.value == 1
            assert pair.at_once.value == (0 if sign == "-" else 1)
    assert (found.one_digit.at_once.hits, found.one_digit.at_once.total) == (200, 255)
    with_minus = sum("-" in p.question for p in asked.by_wording["spaced"])
    assert found.by_wording["spaced"].at_once.hits == 10 - with_minus
