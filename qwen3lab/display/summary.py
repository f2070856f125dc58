"""A result in few words: a title, some facts and a table, as text or as HTML."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qwen3lab.display.html import Page
from qwen3lab.display.plain import one_line

if TYPE_CHECKING:
    import pandas

MAX_FACT_CHARACTERS = 120


@dataclass(frozen=True)
class Summary:
    """What a person wants to see of a result.

    Attributes:
        title: what it is.
        facts: names and values.
        frame: makes the table, which is shown in notebooks only; None if there is none.
        note: a sentence below, such as how to get at the rest.
        index: show the names of the table's rows.
    """

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    frame: "Callable[[], pandas.DataFrame] | None" = None
    note: str = ""
    index: bool = False

    def text(self) -> str:
        """One line."""
        said = (f"{name} {one_line(value, width=60)}" for name, value in self.facts.items())
        facts = ", ".join(one_line(each) for each in said)
        title = one_line(self.title, width=MAX_FACT_CHARACTERS)
        return f"{title}: {facts}" if facts else title

    def html(self) -> str | None:
        """The title, the facts and the table; None where the table needs pandas and there is none.

        A notebook then shows the text.
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
    """Shows itself by `_summary`: one line in a terminal, HTML in a notebook.

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
