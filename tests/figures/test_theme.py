"""Text is escaped for plotly, and white space in tokens is visible."""

import pytest

from qwen3lab.figures import theme


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("<b>bold</b>", "&lt;b&gt;bold&lt;/b&gt;"),
        ('<a href="javascript:x">', '&lt;a href="javascript:x"&gt;'),
        ("&lt;", "&amp;lt;"),
        ("$x^2$", "&#36;x^2&#36;"),
        (r"\frac 'quotes' \" %{x}", r"\frac 'quotes' \" %{x}"),
    ],
)
def test_only_markup_is_escaped(text: str, escaped: str) -> None:
    assert theme.escape(text) == escaped


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" add", "·add"),
        ("\n", "↵"),
        ("\t\r", "⇥␍"),
        ("\x07", "\\x07"),
        ("", "∅"),
        ("三只", "三只"),
        ("\u202e", "\\u202e"),
    ],
)
def test_white_space_and_control_characters_of_a_token_are_visible(token: str, shown: str) -> None:
    assert theme.visible(token) == shown


def test_labels_have_a_position_and_are_shortened_before_escaping() -> None:
    labels = theme.token_labels(["<b>", "a" * 40], first=7, width=10)
    assert labels == ["7 &lt;b&gt;", "8 " + "a" * 9 + "…"]


def test_an_empty_figure_has_its_message_as_the_only_annotation() -> None:
    figure = theme.empty_figure("nothing <here>")
    assert [note.text for note in figure.layout.annotations] == ["nothing &lt;here&gt;"]
    assert not figure.data
