"""Interventions: groups of edits that depend on the position in the text."""

from qwen3lab.interventions import rerouting, sinks

__all__ = ["rerouting", "sinks"]
