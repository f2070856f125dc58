"""Widgets: shells over analyses and figures, for a notebook. No mathematics."""

from qwen3lab.widgets.explorer import Explorer

__all__ = ["Explorer"]
