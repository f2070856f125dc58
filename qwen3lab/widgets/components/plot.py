"""A plotly figure that is drawn anew as its data change, on slow machines too."""

import functools
from collections.abc import Callable

import anywidget
import plotly.graph_objects as go
import traitlets
from plotly.offline import get_plotlyjs, get_plotlyjs_version

from qwen3lab.widgets.components.scripts import script


class Plot(anywidget.AnyWidget):
    """Shows one figure at a time; `show` replaces it.

    In place of plotly's FigureWidget, each of which brings 5 MB of code that must be there within
    anywidget's two seconds: where they are not, as on a busy laptop, it shows no later figure.

    Attributes:
        figure: the figure, as JSON.
        version: of plotly.js.
        is_sent: whether the code of plotly.js has been sent; a page that is loaded again asks.
        shown: the figure, as it was given.
    """

    _esm = script("plot.js")
    figure = traitlets.Unicode().tag(sync=True)
    version = traitlets.Unicode().tag(sync=True)
    is_sent = traitlets.Bool(False).tag(sync=True)

    def __init__(self, figure: go.Figure) -> None:
        super().__init__(figure=_written(figure, ""), version=get_plotlyjs_version())
        self.shown = figure
        self.on_msg(lambda _, content, buffers: self.answer(content))
        self._send_library()
        self.is_sent = True

    def answer(self, content: dict[str, object]) -> None:
        """Send plotly.js to a page that asks for it."""
        if content.get("kind") == "library":
            self._send_library()

    def show(self, figure: go.Figure, *, kind: str = "") -> None:
        """Draw this figure in place of the one before.

        Args:
            figure: with a height of its own; its width is that of the page.
            kind: while it stays the same, and is not empty, so does a zoom made on the page.
        """
        self.shown = figure
        self.figure = _written(figure, kind)

    def on_click(self, handler: Callable[[float], None]) -> None:
        """Call with the horizontal position of a point that is clicked."""

        def told(_: object, content: dict[str, object], __: object) -> None:
            x = content.get("x")
            if content.get("kind") == "click" and isinstance(x, int | float):
                handler(x)

        self.on_msg(told)

    def _send_library(self) -> None:
        self.send({"kind": "library"}, [_library()])


@functools.cache
def _library() -> bytes:
    return get_plotlyjs().encode()


def _written(figure: go.Figure, kind: str) -> str:
    return str(go.Figure(figure).update_layout(uirevision=kind).to_json())
