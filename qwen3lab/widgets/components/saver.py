"""Copies a text and saves pictures of the canvases and figures, in the browser."""

import anywidget
import traitlets

from qwen3lab.widgets.components.scripts import script


class Saver(anywidget.AnyWidget):
    """Buttons that work in the browser alone: copy a text, and save the pictures that are seen.

    Attributes:
        text: what is copied.
        name: beginning of the names of the pictures' files.
        said: what the browser did; empty before.
    """

    _esm = script("saver.js")
    text = traitlets.Unicode().tag(sync=True)
    name = traitlets.Unicode("view").tag(sync=True)
    said = traitlets.Unicode().tag(sync=True)
