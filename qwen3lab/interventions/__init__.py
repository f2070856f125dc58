"""Interventions: groups of edits that depend on the position in the text."""

from qwen3lab.interventions import replacing, rerouting, scaling, sinks

__all__ = ["replacing", "rerouting", "scaling", "sinks"]
