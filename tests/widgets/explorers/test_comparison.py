"""What differs between two answers, whether they say the same, and how they are shown."""

import re
from html import unescape

import pytest

from qwen3lab.widgets.explorers.answer_html import answer_html
from qwen3lab.widgets.explorers.comparison import differences, judge
from qwen3lab.widgets.explorers.replies import answer_box
from tests.fake_lab import ANSWER_IN_PARAGRAPHS, CODE, EARLY_ANSWER


def marked(one: str, other: str) -> tuple[list[str], list[str]]:
    """The texts of the ranges that differ."""
    ranges = differences(one, other)
    return tuple(
        [text[start:end] for start, end in side]
        for text, side in zip((one, other), ranges, strict=True)
    )


def test_latin_text_differs_by_whole_words() -> None:
    assert marked("Three spiders have legs.", "Three spiders had no legs.") == (
        ["have"],
        ["had no"],
    )


def test_chinese_text_differs_by_characters() -> None:
    assert marked("一共有十六条腿。", "一共有二十四条腿。") == (["六"], ["二", "四"])


def test_texts_that_differ_in_white_space_only_have_no_difference() -> None:
    assert marked("one  two\n", "one two") == ([], [])


@pytest.mark.parametrize("text", ["", "same text 同样"])
def test_equal_texts_have_no_difference(text: str) -> None:
    assert differences(text, text) == ([], [])


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("The answer is 24 legs.", "24", True),
        ("The answer is $1,250.00.", "It costs 1250.", True),
        ("三只蜘蛛一共有24条腿。", "24 legs", True),
        ("三只蜘蛛一共有24条腿。", "16 legs", False),
        (r"So \boxed{\frac{1}{2}} of 9", r"\boxed{ \frac{1}{2} } of 10", True),
        ("Yes,  it is.", "Yes, it\nis.", True),
        ("Yes, it is.", "No, it is not.", False),
        ("", "24", False),
        (f"It is 24.\n{CODE}", "24", True),
        ("```\nprint(7)\n```", "```\nprint(8)\n```", False),
    ],
)
def test_answers_are_judged_by_what_they_say(answer: str, reference: str, same: bool) -> None:
    assert judge(answer, reference).same is same
    assert judge(reference, answer).same is same


def test_a_verdict_says_what_was_compared() -> None:
    assert judge(EARLY_ANSWER, ANSWER_IN_PARAGRAPHS).how == "last numbers: 16, 24"
    assert judge("24", "It is 24.").how == "last number: 24"


def test_code_is_shown_as_written_in_monospace_and_nothing_of_it_is_html() -> None:
    found = answer_html(ANSWER_IN_PARAGRAPHS)
    (code,) = re.findall(r'<pre class="q3-code"[^>]*>(.*?)</pre>', found, re.DOTALL)
    assert unescape(code) == CODE
    assert "<b>" not in found and "&lt;b&gt;24&lt;/b&gt;" in found
    assert unescape(re.sub("<[^>]*>", " ", found)).split() == ANSWER_IN_PARAGRAPHS.split()


def test_a_block_of_code_that_is_not_closed_reaches_to_the_end() -> None:
    found = answer_html("Look:\n```python\nx = 1\n\ny = 2")
    assert found.endswith("```python\nx = 1\n\ny = 2</pre>")


def test_marks_are_inside_of_blocks_and_around_the_words_that_differ() -> None:
    found = answer_box("a\n```\nb <i>\n```\nc", "z")
    assert re.findall("<mark>(.*?)</mark>", found, re.DOTALL) == ["a", "```\nb &lt;i&gt;\n```", "c"]
    early = answer_box(EARLY_ANSWER, ANSWER_IN_PARAGRAPHS)
    assert re.findall("<mark>(.*?)</mark>", early) == ["sixteen", "16"]


def test_an_answer_without_text_says_so() -> None:
    assert "(no answer)" in answer_box("", "24")
