"""Summaries of results: a title, facts and a table, as text or as HTML."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qwen3lab.display.html import Page
from qwen3lab.display.plain import one_line
from qwen3lab.translation import tr

if TYPE_CHECKING:
    import pandas

MAX_FACT_CHARACTERS = 120


@dataclass(frozen=True)
class Summary:
    """Summary of a result.

    Attributes:
        title: of the result.
        facts: names and values.
        frame: makes the table, for notebooks only; None for no table.
        note: a sentence below the table, such as how to get more.
        index: show the names of the table's rows.
    """

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    frame: "Callable[[], pandas.DataFrame] | None" = None
    note: str = ""
    index: bool = False

    def text(self) -> str:
        """One line."""
        pairs = (f"{name} {one_line(value, width=60)}" for name, value in self.facts.items())
        facts = tr(", ").join(one_line(pair) for pair in pairs)
        title = one_line(self.title, width=MAX_FACT_CHARACTERS)
        return f"{title}{tr(': ')}{facts}" if facts else title

    def html(self) -> str | None:
        """The title, the facts and the table; None if the table needs pandas and it is missing.

        With None, a notebook shows the text.
        """
        short = {k: one_line(v, width=MAX_FACT_CHARACTERS) for k, v in self.facts.items()}
        page = Page().heading(one_line(self.title, width=MAX_FACT_CHARACTERS)).facts(short)
        if self.frame is not None:
            try:
                frame = self.frame()
            except ImportError:
                return None
            if len(frame):
                page.table(frame, index=self.index)
        return (page.note(self.note) if self.note else page).render()


class Displayed:
    """Base class of results that are displayed by `_summary`, as one line or as HTML.

    A dataclass that derives from it needs `repr=False`.
    """

    def _summary(self) -> Summary:
        raise NotImplementedError

    def __repr__(self) -> str:
        return self._summary().text()

    def _repr_html_(self) -> str | None:
        return self._summary().html()


def count(n: int, noun: str) -> str:
    """A number and its noun: "1 token", "2,000 tokens"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
