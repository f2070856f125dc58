"""Colours and layout shared by all figures, and escaping of text for plotly.

Colours: Viridis for sequential values, Okabe and Ito's palette for categories; both are safe for
colour-blind readers. All text from models, prompts and files goes through `escape`.
"""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.basedatatypes import BaseFigure

from qwen3lab.translation import later

SEQUENTIAL = "Viridis"
INK = "#24292f"
MUTED = "#6a737d"
EMPTY_CELL_COLOUR = "#eceff1"
"""Colour of a cell without a value: an expert not chosen, a later key."""

PART_COLOURS = {
    later("prompt"): "#8c959f",
    later("thinking"): "#0072b2",
    later("answer"): "#009e73",
}
STOP_COLOUR = "#d55e00"
FORCED_COLOUR = "#cc79a7"
OKABE_ITO = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")

_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;"})
_WHITESPACE = str.maketrans({" ": "·", "\n": "↵", "\r": "␍", "\t": "⇥", "\xa0": "⍽"})
_FONT = (
    "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', 'PingFang SC', 'Microsoft YaHei', "
    "'Noto Sans CJK SC', 'Noto Sans SC', sans-serif"
)
"""For Latin text, and after that for Chinese on macOS, Windows and Linux."""


_AXIS = {
    "gridcolor": "#e8ebee",
    "zerolinecolor": "#d0d7de",
    "automargin": True,
    "title": {"font": {"size": 13}, "standoff": 8},
}

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": _FONT, "size": 13, "color": INK},
        "title": {"x": 0, "xref": "container", "xanchor": "left", "pad": {"l": 16}},
        "title_font_size": 16,
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "colorway": OKABE_ITO,
        "margin": {"l": 80, "r": 24, "t": 56, "b": 64},
        "hoverlabel": {"font": {"family": _FONT, "size": 13}, "align": "left"},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    }
)


def escape(text: str) -> str:
    """Text with plotly's markup escaped, so that it is shown unchanged.

    In titles, ticks and hover text, plotly interprets tags, entities and, with MathJax, dollar
    signs. It does not interpret quotes and backslashes, so these are not escaped.
    """
    return text.translate(_MARKUP)


def visible(token: str) -> str:
    """A token on one line, with visible white space and control characters.

    `" add"` gives `"·add"`, a newline `"↵"`, a bell `"\\x07"`, and an empty text `"∅"`.
    """
    shown = token.translate(_WHITESPACE)
    safe = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return "".join(safe) or "∅"


def token_labels(tokens: Sequence[str], *, first: int = 0, width: int = 24) -> list[str]:
    """Axis labels `"12 ·add"`: position and visible text, shortened to `width`, escaped."""
    return [f"{first + i} {short_text(token, width=width)}" for i, token in enumerate(tokens)]


def short_text(token: str, *, width: int) -> str:
    """A token's visible text in at most `width` characters, escaped."""
    text = visible(token)
    return escape(text if len(text) <= width else text[: width - 1] + "…")


def token_axis(title: str) -> dict[str, Any]:
    """Layout of a categorical axis of tokens; plotly leaves out labels that would overlap."""
    return {
        "title": title,
        "type": "category",
        "showgrid": False,
        "tickfont": {"size": 11},
        "automargin": True,
    }


def colour_bar(title: str) -> dict[str, Any]:
    """A slim colour bar with its title along the side."""
    named = {"text": title, "side": "right", "font": {"size": 13}}
    return {"title": named, "thickness": 14, "outlinewidth": 0, "tickfont": {"size": 12}}


def traces(figure: BaseFigure) -> list[Any]:
    """The figure's traces, for updates; typed as `Any` because plotly's types are too narrow."""
    return list(figure.select_traces())


def empty_figure(message: str) -> go.Figure:
    """A figure with a message and no data."""
    figure = go.Figure(layout={"template": TEMPLATE, "height": 220})
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure.add_annotation(
        text=escape(message),
        showarrow=False,
        xref="paper",
        yref="paper",
        x=0.5,
        y=0.5,
        font={"size": 15, "color": MUTED},
    )
