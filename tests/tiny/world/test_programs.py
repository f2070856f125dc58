import contextlib
import io
import random
import re

import pytest

from qwen3lab import tiny
from qwen3lab.tiny.world import programs
from qwen3lab.tiny.world.problems import split_of


def printed(program):
    """The output of Python for the program: the programs are a subset of Python."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(program, {})
    return out.getvalue().strip()


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_every_answer_is_what_python_prints(steps):
    for problem in tiny.problems("code", n=200, steps=steps, seed=steps):
        assert problem.answer == printed(problem.question), problem.question


def test_the_thinking_continues_each_line_with_the_values_that_python_computes():
    for problem in tiny.problems("code", n=100, steps=5, seed=2):
        scope = {}
        exec(problem.question.rsplit("\n", 1)[0], scope)
        source = [line for line in problem.question.split("\n") if not line.startswith("def")]
        first, *lines, last = problem.thinking.split("\n")
        assert first == source[0].replace(" ", "")
        assert len(lines) == 5
        for line, written in zip(lines, source[1:-1], strict=True):
            target, expression, computation, result = line.split("=")
            assert f"{target}={expression}" == written.replace(" ", "")
            before, operand = re.split(r"[+*-]", computation)
            assert int(before) == scope[re.findall(r"[a-z]", expression)[-1]]
            assert eval(computation) == int(result) == scope[target]
            assert 1 <= int(operand) <= 9
        assert last == f"{source[-1]}={problem.answer}"


def test_all_values_are_whole_numbers_below_a_hundred():
    for problem in tiny.problems("code", n=300, steps=8, seed=3, split="train"):
        values = [int(value) for value in re.findall(r"=(\d+)$", problem.thinking, re.MULTILINE)]
        assert len(values) == 10
        assert all(0 <= value <= 99 for value in values)
        assert values[0] <= 20


def test_some_programs_call_functions_and_some_print_an_earlier_variable():
    problems = tiny.problems("code", n=200, steps=4, seed=0)
    assert any("def f" in p.question and re.search(r"= f\(", p.question) for p in problems)
    last = [p.question.split("\n")[-2][0] == p.question[-2] for p in problems]
    assert 0.6 < sum(last) / 200 < 1


def test_a_training_program_of_one_step_is_no_held_out_sum():
    rng, asked = random.Random(0), set()
    for _ in range(1000):
        thinking = programs.draw(rng, 1, "train").thinking
        computation = thinking.split("\n")[1].split("=")[2]
        asked.add(computation)
        assert split_of(f"arithmetic:{computation}") == "train"
    assert len(asked) > 100
