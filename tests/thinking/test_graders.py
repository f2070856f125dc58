import sys

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
def test_the_last_number_of_a_text_is_normalised(text, number):
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
def test_the_content_of_the_last_box_is_extracted(text, inside):
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
def test_graders_accept_correct_answers_only(grader, reply, answer, right):
    assert GRADERS[grader].grade(reply, answer) is right


def test_an_unknown_grader_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'close enough': choose from exact, last number"):
        grader_of("close enough")


def test_comparing_expressions_without_math_verify_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(ImportError, match="pip install 'qwen3lab\\[math\\]'"):
        GRADERS["equivalent"].grade("1/2", "0.5")
