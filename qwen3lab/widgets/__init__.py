"""Notebook widgets that connect analyses and figures to controls. They compute nothing."""

from qwen3lab.widgets.classroom import ClassBoard
from qwen3lab.widgets.explorers.atlas import AtlasExplorer
from qwen3lab.widgets.explorers.nursery import Nursery
from qwen3lab.widgets.workbench.bench import Workbench
from qwen3lab.widgets.workbench.explorers import (
    AttentionExplorer,
    Explorer,
    RoutingExplorer,
    ThinkingExplorer,
    WhyExplorer,
)
from qwen3lab.widgets.workbench.state import WorkbenchState

__all__ = [
    "AtlasExplorer",
    "AttentionExplorer",
    "ClassBoard",
    "Explorer",
    "Nursery",
    "RoutingExplorer",
    "ThinkingExplorer",
    "WhyExplorer",
    "Workbench",
    "WorkbenchState",
]
