"""The border of the world: which replies count as the one for questions from outside."""

import random

import pytest
from tqdm.auto import tqdm

from qwen3lab import tiny
from qwen3lab.tiny.evaluation.border import draw_outside, is_outside_reply, measure_border
from qwen3lab.tiny.world.problems import split_of
from tests.tiny.evaluation.known_lab import KnownLab, chat

ENGLISH = "I only know my small world: sums, swaps, programs, stories, lists."
CHINESE = "我只知道我的小世界：算术、交换、程序、故事、列表。"


@pytest.fixture(scope="module")
def asked():
    return draw_outside(12, random.Random(1))


def answered(answers, language):
    problems = [p for p in tiny.problems("stories", n=60, steps=2) if p.language == language]
    return [(p, chat("", a)) for p, a in zip(problems, answers, strict=False)]


def test_questions_are_held_out_and_of_their_language(asked):
    assert set(asked) == {"with thinking", "without thinking"}
    for by_language in asked.values():
        for language, problems in by_language.items():
            assert len(problems) == 12
            assert all(p.language == language for p in problems)
            assert all(split_of(p.key) == "held-out" for p in problems)
            assert all(p.answer == (ENGLISH if language == "en" else CHINESE) for p in problems)


def test_the_reply_must_be_in_the_language_of_the_question(asked, tiny_tokenizer):
    """A lab that says it in English always, and only with thinking."""
    lab = KnownLab(tiny_tokenizer, lambda q, o: ("", ENGLISH if o["thinking"] else "Paris"))
    found = measure_border(lab, asked, answered(["x"], "en") + answered(["y"], "zh"), tqdm())
    hits = {m: {k: s.hits for k, s in shares.items()} for m, shares in found.outside.items()}
    assert hits == {"with thinking": {"en": 12, "zh": 0}, "without thinking": {"en": 0, "zh": 0}}
    assert (found.outside_in("en").hits, found.outside_in("en").total) == (12, 24)
    assert found.outside_in("zh").hits == 0


def test_questions_of_the_world_are_counted_by_language(tiny_tokenizer):
    inside = answered([ENGLISH, CHINESE, "3", "4"], "en") + answered([f" {CHINESE}\n", "5"], "zh")
    found = measure_border(KnownLab(tiny_tokenizer), {}, inside, tqdm(disable=True))
    assert {k: (s.hits, s.total) for k, s in found.inside.items()} == {"en": (2, 4), "zh": (1, 2)}


@pytest.mark.parametrize(
    ("answer", "counts"),
    [(ENGLISH, True), (f"{CHINESE}\n", True), ("", False), (ENGLISH[:-1], False), ("7", False)],
)
def test_only_the_whole_sentence_counts(answer, counts):
    assert is_outside_reply(answer) is counts
