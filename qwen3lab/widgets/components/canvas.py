"""A heatmap on an HTML canvas: cheap to update, with hover, click and arrow keys."""

import anywidget
import traitlets

from qwen3lab.figures.scales import BY_VALUES, ScaleChoice
from qwen3lab.widgets.components.heatmap import Heatmap, block_value, payload
from qwen3lab.widgets.components.scripts import script


class Canvas(anywidget.AnyWidget):
    """Shows one `Heatmap` at a time; `show` replaces it.

    Attributes:
        map: the heatmap as the browser receives it, from `payload`.
        caption: sentences below the map, one a line; set from Python.
        height: height of the canvas, in pixels; the least height if it `fills`.
        fills: True for as high as the place that the page gives it; a higher map scrolls inside.
        selected: row and column of the cell that was clicked, or picked with Enter; -1 for none.
            `on_pick` resets it to -1 after each pick.
        marked: row and column that a line marks, -1 for no line; set from Python.
        framed: first row, first column, last row and last column of a frame, -1 for no frame; set
            from Python.
        colours: the colour scale that was chosen; `recolour` sets it.
        zooms: True if the user can select a window, by dragging or with the keys + and -.
        zoomed: the window that the user selected: first row, end row, first column, end column
            (ends exclusive); -1 four times for the whole map; empty without a request.
            `on_pick` resets it to empty after each request.
    """

    _esm = script("map_layout.js", "paint.js", "canvas.js")
    map = traitlets.Dict().tag(sync=True)
    caption = traitlets.Unicode().tag(sync=True)
    height = traitlets.Int(420).tag(sync=True)
    fills = traitlets.Bool(False).tag(sync=True)
    selected = traitlets.List(traitlets.Int(), [-1, -1]).tag(sync=True, echo_update=False)
    marked = traitlets.List(traitlets.Int(), [-1, -1]).tag(sync=True)
    framed = traitlets.List(traitlets.Int(), [-1, -1, -1, -1]).tag(sync=True)
    zooms = traitlets.Bool(False).tag(sync=True)
    zoomed = traitlets.List(traitlets.Int(), []).tag(sync=True, echo_update=False)

    def __init__(self, **traits: object) -> None:
        super().__init__(**traits)
        self.heatmap: Heatmap | None = None
        self.colours = BY_VALUES
        if self.fills:
            self.add_class("q3-fill")
        self.on_msg(lambda _, content, buffers: self.answer(content))

    def show(self, heatmap: Heatmap, caption: str | None = None) -> None:
        """Replace the map, and the caption if one is given, in one message."""
        self.heatmap = heatmap
        with self.hold_sync():
            self.map = payload(heatmap, self.colours)
            self.caption = self.caption if caption is None else caption

    def recolour(self, colours: ScaleChoice) -> None:
        """Use another colour scale, for the map that is shown and for later ones."""
        if colours != self.colours:
            self.colours = colours
            if self.heatmap is not None:
                self.map = payload(self.heatmap, colours)

    def show_nothing(self, message: str) -> None:
        """Replace the map by one sentence."""
        self.heatmap = None
        self.map = {"empty": message}

    def answer(self, content: dict[str, object]) -> None:
        """Send the exact value of a cell to the browser, which requested it."""
        if self.heatmap is None or content.get("kind") != "value":
            return
        row, column = content.get("row"), content.get("column")
        if not (isinstance(row, int) and isinstance(column, int)):
            return
        try:
            text = block_value(self.heatmap, row, column)
        except ValueError:
            return  # A smaller map has replaced the one that the request was about.
        self.send({"kind": "value", "row": row, "column": column, "text": text})
