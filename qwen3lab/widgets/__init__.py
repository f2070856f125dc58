"""Notebook widgets that connect analyses and figures to controls. They compute nothing."""

from qwen3lab.widgets.explorers.attention_explorer import AttentionExplorer
from qwen3lab.widgets.explorers.explorer import Explorer
from qwen3lab.widgets.explorers.nursery import Nursery
from qwen3lab.widgets.explorers.routing_explorer import RoutingExplorer
from qwen3lab.widgets.explorers.thinking_explorer import ThinkingExplorer
from qwen3lab.widgets.explorers.why_explorer import WhyExplorer

__all__ = [
    "AttentionExplorer",
    "Explorer",
    "Nursery",
    "RoutingExplorer",
    "ThinkingExplorer",
    "WhyExplorer",
]
