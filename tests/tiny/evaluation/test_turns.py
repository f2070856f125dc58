"""Wrong steps and extensions: what the lab is given, and what is counted."""

import random
import re

import pytest
from tqdm.auto import tqdm

from qwen3lab.generation.thinking_control import Extension
from qwen3lab.tiny.evaluation.turns import answer_of, draw_turns, measure_turns
from qwen3lab.tiny.world.problems import split_of
from tests.tiny.evaluation.known_lab import KnownLab, solver

EQUATION = re.compile(r"(\d+)([+*-])(\d+)=(\d+)")


def results(thinking):
    """Whether each equation of a thinking is right."""
    steps = [EQUATION.fullmatch(step).groups() for step in thinking.split(", ")]
    apply = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
    return [apply[sign](int(a), int(b)) == int(c) for a, sign, b, c in steps]


@pytest.fixture(scope="module")
def asked():
    return draw_turns(30, random.Random(4))


def test_only_the_last_forced_step_is_wrong(asked):
    assert len(asked.forced) == len(asked.extended) == 30 and asked.n_replies == 90
    lengths = set()
    for forced in asked.forced:
        *before, last = results(forced.thinking)
        assert all(before) and not last
        assert forced.problem.thinking.startswith(forced.thinking.rpartition("=")[0])
        assert split_of(forced.problem.key) == "held-out" and 2 <= forced.problem.steps <= 6
        lengths.add(len(before))
    assert {0, 1, 2} <= lengths


def test_the_rest_of_a_forced_thinking_is_counted(asked, tiny_tokenizer):
    """A lab that waits after two digits, and then answers right where the question has a 7."""
    by_begin = {forced.thinking: forced.problem for forced in asked.forced}

    def rest(prompt):
        user, begun = prompt.split("<|im_end|>\n<|im_start|>assistant\n<think>\n")
        problem = by_begin[begun]
        assert user == f"<|im_start|>user\n{problem.question}"
        waits = "\nWait, 1+1=2" if len(begun.rpartition("=")[2]) == 2 else ", Wait"
        answer = problem.answer if "7" in problem.question else "0"
        return f"{waits}\n</think>\n\n{answer}"

    lab = KnownLab(tiny_tokenizer, solver(asked.extended), rest)
    found = measure_turns(lab, asked, tqdm(disable=True))
    two = sum(len(f.thinking.rpartition("=")[2]) == 2 for f in asked.forced)
    right = sum("7" in f.problem.question or f.problem.answer == "0" for f in asked.forced)
    assert 0 < two < 30 and 0 < right < 30
    assert (found.waits.hits, found.recovered.hits) == (two, right)
    assert found.waits.total == found.recovered.total == 30


def test_extended_and_plain_replies_are_to_the_same_problems(asked, tiny_tokenizer):
    """A lab that an extension confuses when the problem has more than four steps."""
    right, steps = solver(asked.extended), {p.question: p.steps for p in asked.extended}

    def reply(question, options):
        confused = "extend" in options and steps[question] > 4
        return ("", "?") if confused else right(question, options)

    lab = KnownLab(tiny_tokenizer, reply)
    found = measure_turns(lab, asked, tqdm(disable=True))
    assert found.plain.hits == found.plain.total == found.extended.total == 30
    assert found.extended.hits == sum(n <= 4 for n in steps.values()) < 30
    extensions = [options["extend"] for _, options in lab.asked if "extend" in options]
    assert extensions == [Extension(times=1, text="Wait")] * 30


@pytest.mark.parametrize(
    ("text", "answer"),
    [("\nWait</think>\n\n7", "\n\n7"), (", 1+1=2", ""), ("</think>a</think>8", "8")],
)
def test_a_reply_whose_thinking_does_not_end_has_no_answer(text, answer):
    assert answer_of(text) == answer
