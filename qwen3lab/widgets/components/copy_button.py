"""A button that copies a text to the clipboard."""

import anywidget
import traitlets

from qwen3lab.translation import tr
from qwen3lab.widgets.components.scripts import script


class CopyButton(anywidget.AnyWidget):
    """Copies `text`.

    Attributes:
        text: what is copied.
        label: of the button.
        hint: of the button, on hover.
        copied: number of times that the text was copied.
    """

    _esm = script("copy_button.js")
    text = traitlets.Unicode().tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)
    hint = traitlets.Unicode().tag(sync=True)
    copied = traitlets.Int(0).tag(sync=True)

    @traitlets.default("label")
    def _label(self) -> str:
        return tr("Copy")

    @traitlets.default("hint")
    def _hint(self) -> str:
        return tr("Copy to the clipboard")
