import random
import re

import pytest

from qwen3lab import tiny
from qwen3lab.tiny.world.lists import KINDS, everything, for_training, owners, pool


def kind_of(problem):
    return problem.key.split(":")[1]


def words(text):
    return re.findall(r"[a-z]+|[一-鿿]+", text)


def tokens(text):
    """Words and symbols of a sequence."""
    known = sorted({*everything("en"), *everything("zh")}, key=len, reverse=True)
    return re.findall("|".join(known), text)


@pytest.mark.parametrize("steps", [2, 6, 12])
def test_every_answer_is_in_the_question(steps):
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


def test_passages_repeat_the_list_or_the_sequence():
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


@pytest.mark.parametrize("kind", ["pairs", "turned"])
def test_pairs_are_repeated_in_another_order(kind):
    rng, orders = random.Random(0), set()
    for _ in range(100):
        problem = for_training(rng, kind, 4)
        pieces = [piece.text.strip() for piece in problem.passage]
        first = list(zip(pieces[:8:2], pieces[1:8:2], strict=True))
        later = list(zip(pieces[8::2], pieces[9::2], strict=True))
        again = [pair[::-1] for pair in later] if kind == "turned" else later
        assert sorted(again) == sorted(first)
        orders.add(tuple(map(first.index, again)))
        # The second word of a repeated pair is determined by the first; the order of pairs is not.
        assert [piece.known for piece in problem.passage] == [False] * 8 + [False, True] * 4
        given, wanted = later[0]
        assert problem.question.endswith((f"{given}?", f"{given}？")) and problem.answer == wanted
    assert len(orders) > 15


def test_a_marked_value_is_determined_by_word_and_mark_together():
    rng, both = random.Random(0), 0
    for _ in range(100):
        problem = for_training(rng, "marked", 6)
        text = "".join(piece.text for piece in problem.passage)
        first, again = (re.findall(r"(\w+)([ =:：])(\d)", part) for part in re.split("[.。]", text))
        assert sorted(first) == sorted(again) and len(set(first)) == 6
        values = {(word, mark): value for word, mark, value in first}
        assert len(values) == 6 and len({word for word, _ in values}) == 3
        both += len(set(values.values())) > 1
        asked = re.search(r"(\w+)([ =:：])[?？]$", problem.question)
        assert asked and problem.answer == values[asked[1], asked[2]]
        known = [piece.text for piece in problem.passage if piece.known]
        assert [text for text in known if text.isdigit()] == [value for *_, value in again]
    assert both > 95


@pytest.mark.parametrize("language", ["en", "zh"])
def test_words_of_lists_are_single_tokens(tiny_tokenizer, language):
    for word in pool(language):
        assert len(tiny_tokenizer.encode(word)) == 1
        if language == "en":
            assert len(tiny_tokenizer.encode(f" {word}")) == 1


@pytest.mark.parametrize("language", ["en", "zh"])
def test_owners_are_told_and_repeated_in_another_order(language):
    rng, orders = random.Random(0), set()
    sentence = r"(\w+?)(?: has the |拿着)(\w+)[.。]"
    for _ in range(100):
        problem = owners(rng, 4, language)
        text = "".join(piece.text for piece in problem.passage)
        told = re.findall(sentence, text)
        assert len(told) == 4 and len({name for name, _ in told}) == 4
        known = [piece.text.strip() for piece in problem.passage if piece.role == "object"][4:]
        again = [piece.text for piece in problem.passage if piece.role == "name"][4:]
        assert sorted(zip(again, known, strict=True)) == sorted(told)
        orders.add(tuple([name for name, _ in told].index(name) for name in again))
        objects = [piece.known for piece in problem.passage if piece.role == "object"]
        assert objects == [False] * 4 + [True] * 4
        name = problem.question.rstrip("?？").replace("。", ". ").split(". ")[-1]
        assert dict(told)[name] == problem.answer
    assert len(orders) > 15
