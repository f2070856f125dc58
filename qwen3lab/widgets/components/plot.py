"""A plotly figure that Python can replace, also on slow machines."""

import functools
from collections.abc import Callable

import anywidget
import plotly.graph_objects as go
import traitlets
from plotly.offline import get_plotlyjs, get_plotlyjs_version

from qwen3lab.widgets.components.scripts import script


class Plot(anywidget.AnyWidget):
    """Shows one figure at a time; `show` replaces it.

    It replaces plotly's FigureWidget. Each FigureWidget loads 5 MB of code, and anywidget waits
    only two seconds for a module: on a busy laptop, a FigureWidget ignores all later updates.
    Here the page loads plotly.js once, from a message.

    Attributes:
        figure: the figure, as JSON.
        fills: True for as high as the place that the page gives it, but not less than the figure.
        version: version of plotly.js.
        is_sent: True once plotly.js has been sent; a reloaded page then requests it again.
        shown: the figure, as a plotly object.
    """

    _esm = script("plot.js")
    figure = traitlets.Unicode().tag(sync=True)
    fills = traitlets.Bool(False).tag(sync=True)
    version = traitlets.Unicode().tag(sync=True)
    is_sent = traitlets.Bool(False).tag(sync=True)

    def __init__(self, figure: go.Figure, *, fills: bool = False) -> None:
        json, version = _figure_json(figure, ""), get_plotlyjs_version()
        super().__init__(figure=json, version=version, fills=fills)
        self.shown = figure
        if fills:
            self.add_class("q3-fill")
        self.on_msg(lambda _, content, buffers: self.answer(content))
        self._send_library()
        self.is_sent = True

    def answer(self, content: dict[str, object]) -> None:
        """Send plotly.js to a page that requests it."""
        if content.get("kind") == "library":
            self._send_library()

    def show(self, figure: go.Figure, *, kind: str = "") -> None:
        """Replace the figure.

        Args:
            figure: a figure with a height; its width follows the page.
            kind: the user's zoom is kept as long as this name stays the same and is not empty.
        """
        self.shown = figure
        self.figure = _figure_json(figure, kind)

    def on_click(self, handler: Callable[[float], None]) -> None:
        """Call `handler` with the x coordinate of each clicked point."""

        def on_message(_: object, content: dict[str, object], __: object) -> None:
            x = content.get("x")
            if content.get("kind") == "click" and isinstance(x, int | float):
                handler(x)

        self.on_msg(on_message)

    def on_name(self, handler: Callable[[str], None]) -> None:
        """Call `handler` with the x coordinate of each clicked point of an axis of names."""

        def on_message(_: object, content: dict[str, object], __: object) -> None:
            x = content.get("x")
            if content.get("kind") == "click" and isinstance(x, str):
                handler(x)

        self.on_msg(on_message)

    def _send_library(self) -> None:
        self.send({"kind": "library"}, [_library()])


@functools.cache
def _library() -> bytes:
    return get_plotlyjs().encode()


def _figure_json(figure: go.Figure, kind: str) -> str:
    return str(go.Figure(figure).update_layout(uirevision=kind).to_json())
