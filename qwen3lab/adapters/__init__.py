"""LoRA adapters that are kept apart from a model's weights, to compare both in one lab."""

from qwen3lab.adapters.switchable import Adapters, SwitchableAdapter

__all__ = ["Adapters", "SwitchableAdapter"]
