"""A heatmap drawn on a canvas: cheap to update, with hover, click and arrow keys."""

import anywidget
import traitlets

from qwen3lab.widgets.components.heatmap import Heatmap, block_value, payload
from qwen3lab.widgets.components.scripts import script


class Canvas(anywidget.AnyWidget):
    """Shows one `Heatmap` at a time; `show` replaces it.

    Attributes:
        selected: row and column of the chosen cell, set by a click or by Enter; -1 where none, and
            again once `on_pick` has told of it.
        marked: row and column lines drawn across the map, -1 where none; set from Python.
        framed: first row and column, last row and column of a frame; -1 for none; from Python.
        zooms: a window may be dragged out, or made with + and - on the keyboard.
        zoomed: its first and past-the-end row, then column; -1 for the whole; empty for nothing
            asked, and again once `on_pick` has told of it.
    """

    _esm = script("map_layout.js", "paint.js", "canvas.js")
    map = traitlets.Dict().tag(sync=True)
    height = traitlets.Int(420).tag(sync=True)
    selected = traitlets.List(traitlets.Int(), [-1, -1]).tag(sync=True)
    marked = traitlets.List(traitlets.Int(), [-1, -1]).tag(sync=True)
    framed = traitlets.List(traitlets.Int(), [-1, -1, -1, -1]).tag(sync=True)
    zooms = traitlets.Bool(False).tag(sync=True)
    zoomed = traitlets.List(traitlets.Int(), []).tag(sync=True)

    def __init__(self, **traits: object) -> None:
        super().__init__(**traits)
        self.heatmap: Heatmap | None = None
        self.on_msg(lambda _, content, buffers: self.answer(content))

    def show(self, heatmap: Heatmap) -> None:
        """Draw this map in place of the one before."""
        self.heatmap = heatmap
        self.map = payload(heatmap)

    def show_nothing(self, message: str) -> None:
        """Draw one sentence in place of a map."""
        self.heatmap = None
        self.map = {"empty": message}

    def answer(self, content: dict[str, object]) -> None:
        """Send the exact value of the cell that the browser asks for."""
        if self.heatmap is None or content.get("kind") != "value":
            return
        row, column = content.get("row"), content.get("column")
        if not (isinstance(row, int) and isinstance(column, int)):
            return
        try:
            text = block_value(self.heatmap, row, column)
        except ValueError:
            return  # The map has been replaced by a smaller one since the question was asked.
        self.send({"kind": "value", "row": row, "column": column, "text": text})
