"""Picks on the page (clicks, keys) as Python calls: one call for each pick."""

from collections.abc import Callable
from typing import Any

import ipywidgets as w


def on_pick(widget: w.Widget, trait: str, handler: Callable[[Any], None]) -> None:
    """Call `handler` with each value that the page sets, then reset the trait to its default.

    The page sends changes only: without the reset, picking the same item again sends nothing. The
    reset goes to the page in one message with what the handler changes of the widget.
    """
    default = getattr(type(widget), trait).default()

    def on_change(change: Any) -> None:
        if change["new"] == default:
            return
        with widget.hold_sync():
            try:
                handler(change["new"])
            finally:
                setattr(widget, trait, default)

    widget.observe(on_change, trait)
