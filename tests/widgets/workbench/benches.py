"""Workbenches without a kernel: displayed as a notebook would, and closed after each test."""

from typing import Any

from qwen3lab.widgets import Workbench
from qwen3lab.widgets.workbench.panel import BenchPanel
from qwen3lab.widgets.workbench.views.attention import AttentionPane
from qwen3lab.widgets.workbench.views.compare import ComparePane
from qwen3lab.widgets.workbench.views.raw import RawPane
from qwen3lab.widgets.workbench.views.routing import RoutingPane
from qwen3lab.widgets.workbench.views.text import ShadedText
from qwen3lab.widgets.workbench.views.thinking import ThinkingPane
from qwen3lab.widgets.workbench.views.why import WhyPane


def panel(bench: Workbench) -> BenchPanel:
    """The widgets of a workbench; it is displayed if it is not yet."""
    if bench.view is None:
        bench._ipython_display_()
    assert bench.view is not None
    return bench.view


def _view(bench: Workbench, name: str) -> Any:
    shown = panel(bench)
    bench.state.tab = name
    return shown.views[name]


def text(bench: Workbench) -> ShadedText:
    """The text view, opened."""
    return _view(bench, "text")


def attention(bench: Workbench) -> AttentionPane:
    """The attention view, opened."""
    return _view(bench, "attention")


def routing(bench: Workbench) -> RoutingPane:
    """The routing view, opened."""
    return _view(bench, "routing")


def thinking(bench: Workbench) -> ThinkingPane:
    """The thinking view, opened."""
    return _view(bench, "thinking")


def why(bench: Workbench) -> WhyPane:
    """The why view, opened."""
    return _view(bench, "why")


def compare(bench: Workbench) -> ComparePane:
    """The compare view, opened."""
    return _view(bench, "compare")


def raw(bench: Workbench) -> RawPane:
    """The raw view, opened."""
    return _view(bench, "raw")
