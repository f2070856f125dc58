"""Interventions: edits that belong together and know where in a text they are."""

from qwen3lab.interventions import rerouting

__all__ = ["rerouting"]
