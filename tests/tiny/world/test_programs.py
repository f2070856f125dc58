import contextlib
import io
import re

import pytest

from qwen3lab import tiny

CIRCLED = "⓪①②③④⑤⑥⑦⑧⑨"


def circled(value):
    return CIRCLED[value % 10]


def printed(program):
    """The output of Python for the program: the programs are a subset of Python."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(program, {})
    return int(out.getvalue())


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_every_answer_is_the_last_digit_of_what_python_prints(steps):
    for problem in tiny.problems("code", n=200, steps=steps, seed=steps):
        assert problem.answer == circled(printed(problem.question)), problem.question


def test_the_thinking_gives_each_variable_the_value_that_python_computes():
    for problem in tiny.problems("code", n=100, steps=5, seed=2):
        scope = {}
        exec(problem.question.rsplit("\n", 1)[0], scope)
        first, *lines, last = problem.thinking.split("\n")
        targets = re.findall(r"^(\w) =", problem.question, re.MULTILINE)
        assert first == f"{targets[0]}{circled(scope[targets[0]])}"
        assert len(lines) == 5
        for line, wanted in zip(lines, targets[1:], strict=True):
            source, before, sign, operand, after, target, again = re.fullmatch(
                r"(\w)(.)([+*-])(\d)(.) (\w)(.)", line
            ).groups()
            assert target == wanted
            assert before == circled(scope[source])
            assert after == again == circled(scope[target])
            assert after == circled(eval(f"{CIRCLED.index(before)}{sign}{operand}"))
        assert last == f"{problem.question[-2]}{problem.answer}"


def test_some_programs_call_functions_and_some_print_an_earlier_variable():
    problems = tiny.problems("code", n=200, steps=4, seed=0)
    assert any("def f" in p.question and re.search(r"= f\(", p.question) for p in problems)
    last = [p.question.split("\n")[-2][0] == p.question[-2] for p in problems]
    assert 0.6 < sum(last) / 200 < 1
