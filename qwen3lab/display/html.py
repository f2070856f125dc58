"""HTML of results, in the notebook's theme colours."""

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, SupportsFloat

from qwen3lab.display.plain import one_line, several_lines

if TYPE_CHECKING:
    import pandas

MAX_TABLE_ROWS = 12
"""Maximum rows of a table; pandas leaves out the rows in the middle."""

MAX_TABLE_COLUMNS = 20
MAX_CELL_CHARACTERS = 80

INK = "var(--jp-content-font-color1, inherit)"
MUTED = "var(--jp-content-font-color2, inherit)"
EDGE = "color-mix(in srgb, currentcolor 25%, transparent)"
TINT = "color-mix(in srgb, currentcolor 6%, transparent)"
_FONT = "font-family: var(--jp-content-font-family, inherit)"
_TEXT = "white-space: pre-wrap; overflow-wrap: anywhere"


def escape(text: str) -> str:
    """Text as HTML that shows it unchanged; control characters are escaped, such as `\\x1b`."""
    return html.escape(several_lines(text))


def table(frame: "pandas.DataFrame", *, index: bool = False, max_rows: int = MAX_TABLE_ROWS) -> str:
    """A pandas table as HTML: texts are escaped and left-aligned, floats have three digits.

    Args:
        frame: the table.
        index: also show the row names.
        max_rows: maximum rows; pandas leaves out the rows in the middle.
    """
    import numpy as np

    # `na_rep` does not apply to the missing value of pandas' own dtypes, such as Int64.
    texts = [
        place
        for place, dtype in enumerate(frame.dtypes)
        if not isinstance(dtype, np.dtype) or dtype.kind not in "biufc"
    ]
    names = [
        _left(str(name)) if place in texts else _cell(str(name))
        for place, name in enumerate(frame.columns)
    ]
    shown = frame.set_axis(names, axis="columns")
    if index:
        shown = shown.set_axis([_cell(str(name)) for name in shown.index], axis="index")
    body = shown.to_html(
        index=index,
        border=0,
        max_rows=max_rows,
        max_cols=MAX_TABLE_COLUMNS,
        float_format=number,
        na_rep="",
        # Every text is escaped above and in `_left`.
        escape=False,
        formatters={names[place]: _left for place in texts},
    )
    style = "overflow-x: auto; max-width: 100%; white-space: nowrap"
    return f'<div style="{style}">{body}</div>'


def number(number: SupportsFloat) -> str:
    """A float in three digits: "0.583", "65,200", "4e-06"."""
    value = float(number)
    if value != value:
        return ""
    size = abs(value)
    if 1e3 <= size < 1e6:
        return f"{value:,.0f}"
    return f"{value:.0e}" if 0 < size < 1e-3 else f"{value:.3g}"


def _left(value: Any) -> str:
    """A left-aligned text cell; empty for a missing value."""
    missing = value is None or (isinstance(value, float) and value != value)
    text = "" if missing or repr(value) == "<NA>" else str(value)
    return f'<div style="text-align: left">{_cell(text)}</div>'


def _cell(text: str) -> str:
    return html.escape(one_line(text, width=MAX_CELL_CHARACTERS))


class Page:
    """Builds HTML from parts; all text is escaped."""

    def __init__(self) -> None:
        self._pieces: list[str] = []

    def heading(self, title: str, *, about: str = "") -> "Page":
        """A bold title, followed by a muted remark."""
        remark = f' <span style="color: {MUTED}">{escape(about)}</span>' if about else ""
        return self._add(f"<div><b>{escape(title)}</b>{remark}</div>")

    def facts(self, facts: Mapping[str, str]) -> "Page":
        """Names and values, side by side."""
        pairs = (
            f'<span style="white-space: nowrap"><span style="color: {MUTED}">{escape(name)}</span> '
            f"{escape(value)}</span>"
            for name, value in facts.items()
        )
        joined = "".join(pairs)
        row = "display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 4px 0"
        return self._add(f'<div style="{row}">{joined}</div>') if joined else self

    def text(self, text: str, *, boxed: bool = False) -> "Page":
        """A text with its line breaks."""
        box = f"; border-left: 3px solid {EDGE}; background: {TINT}; padding: 4px 10px"
        style = f"{_TEXT}; margin: 4px 0{box if boxed else ''}"
        return self._add(f'<div style="{style}">{escape(text)}</div>')

    def note(self, text: str) -> "Page":
        """A muted remark."""
        return self._add(f'<div style="color: {MUTED}; margin: 4px 0">{escape(text)}</div>')

    def folded(self, summary: str, text: str) -> "Page":
        """A collapsed text; a click on the summary shows it."""
        inside = Page().text(text, boxed=True)._inner()
        head = f'<summary style="cursor: pointer; color: {MUTED}">{escape(summary)}</summary>'
        return self._add(f'<details style="margin: 4px 0">{head}{inside}</details>')

    def table(self, frame: "pandas.DataFrame", **options: Any) -> "Page":
        """A table; see `table`."""
        return self._add(table(frame, **options))

    def render(self) -> str:
        """All parts, in one element."""
        return f'<div style="{_FONT}; color: {INK}; max-width: 60em">{self._inner()}</div>'

    def _inner(self) -> str:
        return "".join(self._pieces)

    def _add(self, piece: str) -> "Page":
        self._pieces.append(piece)
        return self
