import contextlib
import io
import re

import pytest

from qwen3lab import tiny


def printed(program):
    """What Python itself prints for the program: the language is a part of Python's."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(program, {})
    return int(out.getvalue())


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_every_answer_is_the_last_digit_of_what_python_prints(steps):
    for problem in tiny.problems("code", n=200, steps=steps, seed=steps):
        assert problem.answer == str(printed(problem.question) % 10), problem.question


def test_the_thinking_gives_each_variable_the_value_that_python_does():
    for problem in tiny.problems("code", n=100, steps=5, seed=2):
        scope = {}
        exec(problem.question.rsplit("\n", 1)[0], scope)
        lines = problem.thinking.split("\n")
        assert len(lines) == 5
        for line in lines:
            name, before, sign, operand, after = re.fullmatch(
                r"(\w): (\d)([+*-])(\d)->(\d)", line
            ).groups()
            assert int(after) == scope[name] % 10
            assert int(after) == eval(f"{before}{sign}{operand}") % 10


def test_some_programs_call_functions_and_some_print_an_earlier_variable():
    problems = tiny.problems("code", n=200, steps=4, seed=0)
    assert any("def f" in p.question and re.search(r"= f\(", p.question) for p in problems)
    last = [p.question.split("\n")[-2][0] == p.question[-2] for p in problems]
    assert 0.6 < sum(last) / 200 < 1
