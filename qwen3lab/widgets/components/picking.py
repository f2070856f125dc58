"""What a person picks on the page, told to Python once for every time that it is picked."""

from collections.abc import Callable
from typing import Any

import ipywidgets as w


def on_pick(widget: w.Widget, trait: str, handler: Callable[[Any], None]) -> None:
    """Call with each value that the page gives a trait; it is then at its default again.

    A page sends changes only: without this, picking the same once more would send nothing.
    """
    nothing = getattr(type(widget), trait).default()

    def told(change: Any) -> None:
        if change["new"] == nothing:
            return
        try:
            handler(change["new"])
        finally:
            setattr(widget, trait, nothing)

    widget.observe(told, trait)
