"""Help of the commands in the language that is shown; messages are looked up when it is printed.

Docstrings of commands and every `help=` of this package are messages of the catalogue. In English,
nothing is done.
"""

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from qwen3lab.translation import language, later, tr

OPTION_CELLS, TEXT_CELLS = 44, 74
"""Widths in terminal cells, of which a Chinese character takes two. Click counts characters, so
that its own lines would be too long."""

UNBROKEN = "\b\n"
"""Click leaves the lines of a paragraph alone that begins so."""

NO_LINE_START = "。，、：；？！”）》"

HEADINGS = {
    "Usage: ": later("Usage: "),
    "Arguments:": later("Arguments:"),
    "Options:": later("Options:"),
    "Commands:": later("Commands:"),
    "[default: ": later("[default: "),
    "[required]": later("[required]"),
    "; required]": later("; required]"),
}
"""What Click and Typer write into help."""

EXITS = later("Show this message and exit.")


class _Translated:
    """Mixed into a command: its help is that of the language."""

    def get_help(self: Any, ctx: Any) -> str:
        if language() == "en":
            return super().get_help(ctx)  # type: ignore[misc]
        with _in_language(self, ctx):
            text = super().get_help(ctx)  # type: ignore[misc]
        return with_headings(text)


class Command(_Translated, TyperCommand):
    """A command whose help is translated."""


class Group(_Translated, TyperGroup):
    """A group of commands whose help is translated."""


class App(typer.Typer):
    """A Typer application whose help is translated."""

    def __init__(self, **options: Any) -> None:
        super().__init__(cls=Group, **options)

    def command(self, *arguments: Any, **options: Any) -> Any:
        return super().command(*arguments, **{"cls": Command} | options)


@contextmanager
def _in_language(command: Any, ctx: Any) -> Iterator[None]:
    """Replace the help of a command, its parameters and its own commands for a while."""
    replaced = {(command, "help"): _paragraphs(_looked_up(command.help), TEXT_CELLS)}
    for param in command.get_params(ctx):
        found = _looked_up(getattr(param, "help", ""))
        replaced[param, "help"] = _paragraphs(found, OPTION_CELLS)
    for each in getattr(command, "commands", {}).values():
        replaced[each, "short_help"] = _looked_up(each.help).partition("\n\n")[0]
    before = {place: getattr(*place) for place in replaced}
    try:
        for (owner, name), text in replaced.items():
            setattr(owner, name, text)
        yield
    finally:
        for (owner, name), text in before.items():
            setattr(owner, name, text)


def _looked_up(text: str | None) -> str:
    return tr(inspect.cleandoc(text)) if text else ""


def _paragraphs(text: str, cells: int) -> str:
    """Text whose paragraphs with wide characters are broken into lines of so many cells."""
    parts = [
        part if part.isascii() else UNBROKEN + "\n".join(lines(part, cells))
        for part in text.split("\n\n")
    ]
    return "\n\n".join(parts)


def lines(text: str, cells: int) -> list[str]:
    """Text in lines of at most so many terminal cells; words of ASCII are kept whole."""
    from rich.cells import cell_len

    found = [""]
    for piece in re.findall(r"[!-~]+|\s+|.", text):
        fits = cell_len(found[-1]) + cell_len(piece) <= cells
        if fits or piece in NO_LINE_START:
            found[-1] += " " if piece.isspace() else piece
        else:
            found.append(piece.lstrip())
    return [line.strip() for line in found if line.strip()]


def with_headings(text: str) -> str:
    """Help in which the words of Click and Typer are translated."""
    for english, message in HEADINGS.items():
        text = text.replace(english, tr(message))
    return text
