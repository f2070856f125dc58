import re

import pytest

from qwen3lab import tiny
from qwen3lab.tiny.lists import KINDS, everything, pool


def kind_of(problem):
    return problem.key.split(":")[1]


def words(text):
    return re.findall(r"[a-z]+|[一-鿿]+", text)


def tokens(text):
    """Words and signs of a sequence."""
    known = sorted({*everything("en"), *everything("zh")}, key=len, reverse=True)
    return re.findall("|".join(known), text)


@pytest.mark.parametrize("steps", [2, 6, 12])
def test_every_answer_stands_in_the_question(steps):
    problems = tiny.problems("lists", n=300, steps=steps, seed=steps)
    assert {kind_of(problem) for problem in problems} == set(KINDS)
    for problem in problems:
        listed, asked = re.split(r"\. |。", problem.question)
        if kind_of(problem) == "look-up":
            entries = dict(re.findall(r"([a-z一-鿿]+) ?(\d)", listed))
            assert len(entries) == steps
            assert problem.answer == entries[words(asked)[0]]
        elif kind_of(problem) == "backwards":
            assert asked in ("Backwards?", "倒着？")
            assert tokens(problem.answer) == tokens(listed)[::-1]
        else:
            assert asked in ("Again?", "再说？")
            assert problem.answer == listed


def test_passages_show_the_same_truth():
    for problem in tiny.problems("lists", n=300, steps=5, seed=1):
        text = "".join(piece.text for piece in problem.passage)
        if kind_of(problem) == "look-up":
            first, second = re.split(r"\. |。", text)
            pairs = re.findall(r"([a-z一-鿿]+) ?(\d)", first)
            assert sorted(re.findall(r"([a-z一-鿿]+) ?(\d)", second)) == sorted(pairs)
        elif kind_of(problem) == "backwards":
            there_and_back = tokens(text)
            assert len(there_and_back) == 10
            assert there_and_back == there_and_back[::-1]
        else:
            rounds = [text[: len(text) // k] for k in (2, 3) if text == text[: len(text) // k] * k]
            assert any(unit.strip() == problem.answer for unit in rounds)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_words_of_lists_are_single_tokens(tiny_tokenizer, language):
    for word in pool(language):
        assert len(tiny_tokenizer.encode(word)) == 1
        if language == "en":
            assert len(tiny_tokenizer.encode(f" {word}")) == 1
