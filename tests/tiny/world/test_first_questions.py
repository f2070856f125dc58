"""The fifty first questions: well-formed, solvable, and never part of the training."""

import random
import re

import pytest

from qwen3lab.tiny.world import arithmetic, hints, outside
from qwen3lab.tiny.world.documents import Writer
from qwen3lab.tiny.world.tokenizer import EARLY_STOP
from tests.tiny.first_questions import FIRST_QUESTIONS, normalised

RESERVED = {normalised(first.question) for first in FIRST_QUESTIONS}


def test_there_are_fifty_different_questions():
    assert len(FIRST_QUESTIONS) == len(RESERVED) == 50


def test_the_expected_numbers_are_right():
    for first in FIRST_QUESTIONS:
        if first.kind == "number" and first.chain:
            start, operations = arithmetic.chain_of(f"arithmetic:{first.chain}")
            value = start
            for sign, operand in operations:
                value = eval(f"{value}{sign}{operand}")
            assert first.reply == str(value)
            assert re.findall(r"\d+", first.question) == re.findall(r"\d+", first.chain)
        assert bool(first.reply) == (first.kind != "outside")


def test_normalised_questions_ignore_case_spaces_and_marks():
    assert normalised(" What IS 3 + 4 ?") == normalised("what is 3+4") == "whatis3+4"
    assert normalised("你好！") == normalised("你好") != normalised("你好吗")


def test_arithmetic_and_hints_never_draw_a_reserved_chain():
    rng = random.Random(0)
    chains = {first.chain for first in FIRST_QUESTIONS if first.chain}
    for draw in (arithmetic.draw, hints.draw):
        for _ in range(4000):
            problem = draw(rng, 1, "train")
            passage = "".join(piece.text for piece in problem.passage)
            stated = {equation.split("=")[0] for equation in re.split(r", |\.\n", passage)}
            assert not chains & {problem.key.removeprefix("arithmetic:"), *stated}


@pytest.mark.parametrize("split", ["train", "held-out"])
def test_outside_never_draws_a_first_question(split):
    rng = random.Random(0)
    asked = {normalised(outside.draw(rng, 1, split).question) for _ in range(8000)}
    assert not asked & RESERVED


def test_no_training_document_asks_a_first_question(tiny_tokenizer):
    writer, rng = Writer(tiny_tokenizer, EARLY_STOP), random.Random(0)
    asked = set()
    for _ in range(1500):
        text = tiny_tokenizer.decode(writer.write(rng).token_ids)
        found = re.findall(r"<\|im_start\|>user\n(.*?)(?: /(?:no_)?think)?<\|im_end\|>", text, re.S)
        asked |= {normalised(question) for question in found}
    assert len(asked) > 1500
    assert not asked & RESERVED
