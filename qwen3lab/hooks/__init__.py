"""Hook points, taps that read their activations, and edits that replace activations."""

from typing import Any

from qwen3lab._moved import renamed
from qwen3lab.errors import HookError
from qwen3lab.hooks.edits import AnyEdits, Edit, Edits, Intervention, Settling
from qwen3lab.hooks.points import HOOK_POINTS, HookPoint, hook_names, resolve_hooks
from qwen3lab.hooks.taps import NO_TAP, Chain, Collector, Keep, NoTap, Tap

__all__ = [
    "HOOK_POINTS",
    "NO_TAP",
    "AnyEdits",
    "Chain",
    "Collector",
    "Edit",
    "Edits",
    "HookError",
    "HookPoint",
    "Intervention",
    "Keep",
    "NoTap",
    "Settling",
    "Tap",
    "hook_names",
    "resolve_hooks",
]


def __getattr__(name: str) -> Any:
    """Look up a name of version 0.1, with a deprecation warning."""
    return renamed("hooks", name)
