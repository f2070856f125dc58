"""Attention statistics: a profile of each head, attention received by each token, rollout."""

from typing import Any

from qwen3lab._moved import renamed
from qwen3lab.analysis.attention.profile import KINDS, HeadProfile, head_profile
from qwen3lab.analysis.attention.rollout import rollout
from qwen3lab.analysis.attention.statistics import BLOCK, key_mass, likeness

__all__ = ["BLOCK", "KINDS", "HeadProfile", "head_profile", "key_mass", "likeness", "rollout"]


def __getattr__(name: str) -> Any:
    """Names from before version 0.2, with a warning."""
    return renamed("analysis.attention", name)
