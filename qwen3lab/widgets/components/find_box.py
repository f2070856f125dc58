"""A search box with the number of places found, and buttons for the previous and the next one."""

from collections.abc import Callable

import anywidget
import traitlets

from qwen3lab.widgets.components.scripts import script


class FindBox(anywidget.AnyWidget):
    """A search box. Enter goes to the next place, Shift+Enter to the previous one, Escape clears.

    Attributes:
        text: what is searched; set by typing, or from Python.
        found: `hit` is the number of the place that is picked, from 0, and -1 for none; `of` is
            the number of places.
    """

    _esm = script("find_box.js")
    text = traitlets.Unicode().tag(sync=True)
    found = traitlets.Dict({"hit": -1, "of": 0}).tag(sync=True)

    def on_go(self, handler: Callable[[int], None]) -> None:
        """Call `handler` with 1 for the next place and with -1 for the previous one."""
        self.on_msg(lambda _, content, __: _call(handler, content))


def _call(handler: Callable[[int], None], content: dict[str, object]) -> None:
    step = content.get("step")
    if content.get("kind") == "go" and step in (1, -1):
        handler(1 if step == 1 else -1)
