"""What is said at answers that are outside of the embedded world, or unsure."""

import math

import pytest

import qwen3lab
from qwen3lab import tiny
from qwen3lab.generation.suggested import OUTSIDE_EXAMPLES, TINY
from qwen3lab.widgets.explorers.notice_compute import (
    MOST_EXAMPLES,
    examples_for,
    least_certain,
    needs_thinking,
    notice_of,
)

OTHERS = (
    "hello",
    "What is the capital of France?",
    "2*(3+4)=?",
    "12+34+",
    "I was born in Berlin in 1987 and moved to Shanghai for my job three years ago. Can you tell "
    "me which visa I need if I want to bring my parents here for six months?",
    "你好",
    "法国的首都是哪里？",
    "我1987年出生在柏林，三年前因为工作搬到上海。如果我想把父母接来住六个月，需要办哪种签证，要多少钱？",
)
INSIDE = ("3+4=?", "What is 6 times 7?", "lamp 2, book 7, cat 1. book?", "12+30=?", "8加5等于几？")


@pytest.fixture(scope="module")
def lab():
    return qwen3lab.load("tiny-moe", device="cpu")


def asked(lab, question, thinking):
    return lab.chat(
        question, thinking=thinking, sampling=lab.suggested.sampling, max_new_tokens=120
    )


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("question", OTHERS)
def test_a_question_from_elsewhere_gets_a_notice_with_examples(lab, question, thinking):
    found = notice_of(asked(lab, question, thinking), question, TINY)
    assert found is not None
    assert "left to right" in found.world
    assert found.examples and set(found.examples) <= set(TINY)


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("question", INSIDE)
def test_a_short_question_of_the_world_gets_none(lab, question, thinking):
    assert notice_of(asked(lab, question, thinking), question, TINY) is None


def test_a_sum_with_its_end_missing_gets_one_however_sure_the_model_is(lab):
    chat = asked(lab, "12+34+", True)
    assert least_certain(chat)[0] > 0.5
    found = notice_of(chat, "12+34+", TINY)
    assert found is not None and "no complete sum" in found.text


@pytest.mark.parametrize("question", ["3+4", "3 + 4 = ?", "((7+2)*3)-1=?", "9×3 =", "12x3?"])
def test_a_whole_sum_is_one(lab, question):
    found = notice_of(asked(lab, question, True), question, TINY)
    assert found is None or "no complete sum" not in found.text


def test_with_thinking_one_held_out_problem_in_twenty_at_most_gets_one_and_most_are_right(lab):
    problems = [
        problem
        for family, steps in (("arithmetic", 3), ("swaps", 2), ("lists", 3), ("code", 2))
        for problem in tiny.problems(family, n=15, steps=steps, seed=4)
    ]
    replies = lab.chat_batch(
        [problem.question for problem in problems],
        sampling=lab.suggested.sampling,
        max_new_tokens=200,
    )
    pairs = list(zip(problems, replies, strict=True))
    noted = [p for p, reply in pairs if notice_of(reply, p.question, TINY) is not None]
    assert len(noted) <= len(problems) / 20
    assert sum(p.grade(reply.answer) for p, reply in pairs) >= 0.95 * len(problems)


def test_without_thinking_long_sums_are_wrong_and_are_said_to_be_unsure(lab):
    problems = tiny.problems("arithmetic", n=20, steps=5, seed=4)
    replies = lab.chat_batch(
        [problem.question for problem in problems],
        thinking=False,
        sampling=lab.suggested.sampling,
        max_new_tokens=40,
    )
    wrong = [
        notice_of(reply, problem.question, TINY)
        for problem, reply in zip(problems, replies, strict=True)
        if not problem.grade(reply.answer)
    ]
    assert len(wrong) > 10 and all(found is not None for found in wrong)
    assert all("unsure" in found.text for found in wrong if found)


def test_the_least_certain_token_is_the_smallest_probability_of_the_reply(lab):
    chat = asked(lab, "12+34+", False)
    probability, token = least_certain(chat) or (0, "")
    assert probability == pytest.approx(min(math.exp(float(each)) for each in chat.logprobs))
    assert token in chat.tokens


def test_an_inserted_token_is_not_counted(lab):
    chat = lab.chat("3+2*7-1=?", budget=2, sampling=lab.suggested.sampling, max_new_tokens=60)
    assert any(chat.inserted)
    _, token = least_certain(chat) or (0, "")
    generated = [t for t, inserted in zip(chat.tokens, chat.inserted, strict=True) if not inserted]
    assert token in generated


def test_examples_are_in_the_language_of_the_question_and_leave_it_out():
    assert examples_for("你好", TINY)[0] == "8加5乘3减12等于几？"
    first = examples_for(TINY[0], TINY)
    assert TINY[0] not in first and len(first) == MOST_EXAMPLES


def test_the_examples_that_are_left_out_are_a_wrong_hint_and_one_from_outside(lab):
    hinted, outside = OUTSIDE_EXAMPLES
    assert "(answer key: 30)" in hinted  # 25+17-8 is 34
    assert tiny.says_outside(asked(lab, outside, True).answer)


@pytest.mark.parametrize("question", ["hello", "你好"])
def test_without_thinking_only_examples_that_need_none_are_offered(lab, question):
    offered = examples_for(question, TINY, thinking=False)
    assert len(offered) == MOST_EXAMPLES
    for example in offered:
        assert notice_of(asked(lab, example, False), example, TINY) is None


@pytest.mark.parametrize(
    ("question", "needs"), [("12+30=?", False), ("1+2*3=?", True), ("8加5乘3减12等于几？", True)]
)
def test_a_sum_of_more_than_one_step_needs_thinking(question, needs):
    assert needs_thinking(question) is needs


def test_a_doubtful_sum_without_thinking_is_told_to_think_first(lab):
    found = notice_of(asked(lab, TINY[0], False), TINY[0], TINY)
    assert found is not None and "think first" in found.text
