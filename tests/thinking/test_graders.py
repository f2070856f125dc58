import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from qwen3lab.thinking.graders import GRADERS, boxed, grader_of, last_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("So 3 and then 42.", "42"),
        ("It costs $1,250.00 in all", "1250"),
        ("between -7 and −3.50", "-3.5"),
        ("10,000,000", "10000000"),
        ("2.50 kg", "2.5"),
        ("x1 is a name, not a number", ""),
        ("It is .5", "0.5"),
        ("The 3 parts give -.25.", "-0.25"),
        ("about $.50", "0.5"),
        ("1e3 and 2.5E-1", "0.25"),
        ("so it ends with 7... ", "7"),
        ("none", ""),
        ("", ""),
    ],
)
def test_last_number_returns_the_normalised_last_number(text, number):
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{1} and then \boxed{ \frac{1}{2} }", r"\frac{1}{2}"),
        (r"\fbox{a{b}c}", "a{b}c"),
        (r"\boxed{never closed", ""),
        (r"\boxed 7", ""),
        ("no box", ""),
    ],
)
def test_boxed_returns_the_content_of_the_last_box(text, inside):
    assert boxed(text) == inside


@pytest.mark.parametrize(
    ("grader", "reply", "answer", "right"),
    [
        ("exact", " Ann key\n", "Ann key", True),
        ("exact", "Ann has the key", "Ann key", False),
        ("last number", "That makes 1,000.", "1000", True),
        ("last number", "no idea", "1000", False),
        ("boxed", r"\boxed{10\text{ cm}}", r"10 \text{ cm}", True),
        ("boxed", r"\boxed{11}", "10", False),
        ("boxed", "10", "10", False),
        ("equivalent", r"\boxed{\frac{2}{4}}", r"\frac{1}{2}", True),
        ("equivalent", "0.5", r"\frac{1}{2}", True),
        ("equivalent", r"\boxed{x(x+1)}", "x^2+x", True),
        ("equivalent", r"\boxed{\frac{2}{3}}", r"\frac{1}{2}", False),
    ],
)
def test_graders_accept_right_and_reject_wrong_answers(grader, reply, answer, right):
    assert GRADERS[grader].grade(reply, answer) is right


def test_the_error_for_an_unknown_grader_lists_the_known_ones():
    with pytest.raises(ValueError, match="'close enough': choose from exact, last number"):
        grader_of("close enough")


def test_the_error_without_math_verify_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(ImportError, match="pip install 'qwen3lab\\[math\\]'"):
        GRADERS["equivalent"].grade("1/2", "0.5")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1e400", "1" + "0" * 400),
        ("1e5000", "1E+5000"),
        ("-2.50e1000000", "-25E+999999"),
        ("1e999999999999", "1E+999999999999"),
        ("-1e-999999999", "-1E-999999999"),
        ("0e999999999", "0"),
        ("-0.00", "0"),
        ("1." + "0" * 10**6, "1"),
        ("1e-7", "1E-7"),
        # All digits count, also those after the 28 of Python's decimal context.
        ("0.12345678901234567890123456789012345", "0.12345678901234567890123456789012345"),
        ("123456789012345678901234567890123.50", "123456789012345678901234567890123.5"),
    ],
)
def test_numbers_of_any_size_are_normalised_without_writing_them_out(text, number):
    assert last_number(f"so it is {text}") == number


@pytest.mark.parametrize("text", ["1e5000", "1e1000000", "1e999999999999999999999", "7" * 10**6])
def test_a_hostile_number_equals_itself_and_no_other(text):
    grader = GRADERS["last number"]
    assert grader.grade(text, text)
    assert not grader.grade(text, "3") and not grader.grade("3", text)


@pytest.mark.parametrize("text", ["9," * 10**6, "$" * 10**5 + "5", "\\boxed{" * 10**5, "{" * 10**6])
def test_very_long_replies_are_graded(text):
    assert not any(GRADERS[name].grade(text, "3") for name in ("exact", "last number", "boxed"))


HOSTILE = (r"9^{9^{9^{9}}}", "(" * 3000 + ")" * 3000, r"\binom{10^9}{5\cdot 10^8}")


def test_expressions_that_compute_without_end_are_not_equal_and_the_next_is_graded(monkeypatch):
    grader = GRADERS["equivalent"]
    for expression in HOSTILE[:2]:
        assert not grader.grade(f"\\boxed{{{expression}}}", "3")
        assert grader.grade(r"\boxed{\frac{2}{4}}", r"\frac{1}{2}")
    assert grader.grade(f"\\boxed{{{HOSTILE[2]}}}", HOSTILE[2])


def test_expressions_are_compared_from_other_threads():
    grader = GRADERS["equivalent"]
    with ThreadPoolExecutor(4) as pool:
        right = pool.map(lambda n: grader.grade(f"\\boxed{{{n}+1}}", f"{n + 1}"), range(8))
        wrong = pool.map(lambda n: grader.grade(f"\\boxed{{{n}+1}}", f"{n}"), range(8))
        assert all(right) and not any(wrong)


def test_an_interrupted_comparison_does_not_answer_the_next(monkeypatch):
    grader = GRADERS["equivalent"]
    assert grader.grade("1/2", "0.5")

    def interrupt(number, frame):
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            grader.grade(f"\\boxed{{{HOSTILE[0]}}}", "3")
    finally:
        signal.signal(signal.SIGALRM, old)
    assert grader.grade("1/2", "0.5") and not grader.grade("1/3", "0.5")


def test_a_text_with_quotes_line_breaks_and_surrogates_is_compared_as_text():
    for text in ('3"\n"4', "\ud800", "3\n1", "\\boxed{\u20283}"):
        assert not GRADERS["equivalent"].grade(text, "5")
