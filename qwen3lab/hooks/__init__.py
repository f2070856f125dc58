"""Hook points, the tap that reads them, and edits that change what passes through."""

from qwen3lab.errors import HookError
from qwen3lab.hooks.edits import AnyEdits, Edit, Edits, Intervention, Settling
from qwen3lab.hooks.points import HOOK_POINTS, HookPoint, hook_names, resolve_hooks
from qwen3lab.hooks.taps import NOTHING, Chain, Keep, NoTap, Tap

__all__ = [
    "HOOK_POINTS",
    "NOTHING",
    "AnyEdits",
    "Chain",
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
