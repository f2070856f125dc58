"""Untrusted text is shown as text: no tag reaches a page, no control character a terminal."""

import subprocess
import sys

import pandas
import pytest

from qwen3lab.display import (
    Displayed,
    Page,
    Summary,
    count,
    escape,
    one_line,
    several_lines,
    shortened,
    table,
)

HOSTILE = '<script>x()</script><img src=x onerror="y()">\x1b[31m\x9b2J\u202eabc\x07'


def is_harmless(html: str) -> bool:
    tags = ("<script", "<img", "<h1", "<b>x")
    return not any(tag in html for tag in tags) and all(c.isprintable() or c == "\n" for c in html)


def test_one_line_escapes_control_characters():
    assert one_line("a\nb\tc\x1b[0m") == r"a↵b⇥c\x1b[0m"
    assert one_line("\u202e\ud800") == r"\u202e\ud800"
    assert one_line("中文 é") == "中文 é"


def test_one_line_is_at_most_as_wide_as_given():
    assert one_line("abcdef", width=4) == "abc…"
    assert len(one_line("\x1b" * 50, width=10)) == 10
    assert one_line("abcd", width=4) == "abcd"


def test_several_lines_keep_line_breaks_and_tabs_and_escape_other_control_characters():
    assert several_lines("a\r\nb\n\tc\rd\x00") == "a\nb\n\tc\\rd\\x00"


def test_a_long_text_is_cut_in_the_middle():
    assert shortened("a" * 50 + "b" * 50, 23) == "a" * 10 + " … " + "b" * 10
    assert shortened("short", 23) == "short"


def test_every_part_of_a_page_escapes_its_text():
    page = Page().heading(HOSTILE, about=HOSTILE).facts({HOSTILE: HOSTILE}).text(HOSTILE)
    page.note(HOSTILE).folded(HOSTILE, HOSTILE)
    page.table(
        pandas.DataFrame({HOSTILE: [HOSTILE, None], "n": [1, 2]}, [HOSTILE, "b"]), index=True
    )
    html = page.render()
    assert is_harmless(html)
    assert html.count("&lt;script&gt;") >= 10 and html.count(r"\x1b[31m") >= 8
    assert escape("a & \x1b") == r"a &amp; \x1b"


def test_a_long_table_is_shortened_and_numbers_have_three_digits():
    frame = pandas.DataFrame({"x": [0.58333, 4e-6, 65_234.0, float("nan")] * 10, "t": ["a"] * 40})
    html = table(frame, max_rows=6)
    assert html.count("<tr") == 1 + 6 + 1 and "..." in html
    assert "0.583" in html and "4e-06" in html and "65,234" in html and "nan" not in html.lower()
    assert "<tbody>\n  </tbody>" in table(frame[:0])


def test_a_summary_is_one_line_of_text_or_html_with_the_table():
    class Result(Displayed):
        def _summary(self) -> Summary:
            frame = pandas.DataFrame({"text": [HOSTILE]})
            return Summary(HOSTILE, {"tokens": "3", "stop\n": HOSTILE}, lambda: frame, note="more")

    shown, html = repr(Result()), Result()._repr_html_()
    assert "\n" not in shown and shown.isprintable() and "tokens 3" in shown
    assert is_harmless(html) and "<table" in html and "more" in html


def test_a_table_without_rows_is_left_out():
    assert "<table" not in Summary("x", {}, pandas.DataFrame).html()


def test_without_pandas_only_the_text_is_shown():
    def frame():
        raise ImportError("pandas")

    assert Summary("x", {}, frame).html() is None
    assert Summary("x", {}, frame).text() == "x"


@pytest.mark.parametrize(("n", "text"), [(0, "0 tokens"), (1, "1 token"), (2500, "2,500 tokens")])
def test_a_count_is_followed_by_its_noun(n, text):
    assert count(n, "token") == text


def test_display_imports_neither_pandas_nor_torch():
    code = (
        "import sys, qwen3lab.display\n"
        "print([m for m in ('numpy', 'pandas', 'torch', 'plotly') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
