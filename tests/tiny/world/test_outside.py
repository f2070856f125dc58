"""Questions from outside of the world: variety, splits, and the border to arithmetic."""

import random
import re

import pytest

from qwen3lab import tiny
from qwen3lab.tiny.world import outside
from qwen3lab.tiny.world.outside_templates import TEMPLATES
from qwen3lab.tiny.world.outside_words import WORD_LISTS
from qwen3lab.tiny.world.problems import split_of

IDK = {
    "en": "I only know my small world: sums, swaps, programs, stories, lists.",
    "zh": "我只知道我的小世界：算术、交换、程序、故事、列表。",
}


@pytest.fixture(scope="module")
def train():
    return tiny.problems("outside", n=4000, steps=1, split="train")


@pytest.fixture(scope="module")
def held_out():
    return tiny.problems("outside", n=1500, steps=1, split="held-out")


def test_the_reply_has_the_language_of_the_question(train):
    for problem in train:
        language = "zh" if re.search("[一-鿿]", problem.question) else "en"
        assert problem.language == language
        assert problem.answer == IDK[language]
        assert problem.thinking in ("This is not in my world.", "这不在我的小世界里。")
    share = sum(problem.language == "zh" for problem in train) / len(train)
    assert 0.25 < share < 0.45


def test_questions_are_diverse(train, held_out):
    assert len({problem.question for problem in train}) > 3000
    assert len({problem.question for problem in held_out}) > 600
    assert len({problem.key for problem in train}) > 600
    assert len({problem.key for problem in held_out}) > 60


def test_templates_and_topics_of_the_splits_differ(train, held_out):
    assert not {problem.key for problem in train} & {problem.key for problem in held_out}
    for language, lists in WORD_LISTS.items():
        for kind, words in lists.items():
            both = [set(outside.words(language, kind, split)) for split in ("train", "held-out")]
            assert both[0] | both[1] == set(words)
            assert not both[0] & both[1]


def test_a_held_out_question_has_a_held_out_template_and_held_out_topics():
    rng = random.Random(3)
    listed = {
        word.casefold(): word
        for lists in WORD_LISTS.values()
        for row in lists.values()
        for word in row
    }
    checked = 0
    for _ in range(500):
        problem = outside.draw(rng, 1, "held-out")
        assert split_of(problem.key) == "held-out"
        for piece in problem.asked:
            word = listed.get(piece.text.casefold())
            slots = set(re.findall(r"\{(\w+)\}", problem.key))
            if piece.role == "topic" and word and slots <= set(WORD_LISTS["en"]):
                assert split_of(f"outside topic:{word}") == "held-out"
                checked += 1
    assert checked > 100


def test_all_slots_of_the_templates_have_a_list_or_a_function():
    for language, templates in TEMPLATES.items():
        slots = {slot for text in templates for slot in re.findall(r"\{(\w+)\}", text)}
        known = {*WORD_LISTS[language], *outside.NUMBERS, *outside.FILLERS}
        assert slots <= known
        assert not {"{", "}"} & set(re.sub(r"\{\w+\}", "", "".join(templates)))


def is_inside(question):
    """True if the question is a chain of the world, by the rules of arithmetic alone."""
    words = {"加": "+", "减": "-", "乘": "*", " plus ": "+", " minus ": "-", " times ": "*"}
    text = question.casefold().replace("×", "*").replace("x", "*")
    for word, sign in words.items():
        text = text.replace(word, sign)
    text = re.sub(r"what is|how much is|compute|计算|等于几|等于多少|是多少|\s", "", text)
    text = re.sub(r"[=?？.。]+$", "", text)
    if not re.fullmatch(r"\d+(?:[+*-]\d+)+", text):
        return False
    first, *rest = re.findall(r"[+*-]?\d+", text)
    values, operands = [int(first)], [int(part[1:]) for part in rest]
    for part in rest:
        values.append(eval(f"{values[-1]}{part}"))
    products = zip(values, rest, strict=False)
    one_digit = all(part[0] != "*" or min(v, int(part[1:])) < 10 for v, part in products)
    return one_digit and max(operands) <= 99 and all(0 <= value <= 999 for value in values)


def test_no_question_from_outside_is_a_chain_of_the_world(train, held_out):
    assert is_inside("What is 3+4?") and is_inside("3加4乘7等于多少？") and is_inside("3 × 12 =")
    assert [p.question for p in (*train, *held_out) if is_inside(p.question)] == []
    chains = [p for p in train if re.fullmatch(r"[\d\s+*x×=?-]+", p.question)]
    assert len(chains) > 100


def test_a_number_of_steps_other_than_one_is_an_error():
    with pytest.raises(ValueError, match="2 steps do not exist: expected 1"):
        tiny.problems("outside", n=1, steps=2)
