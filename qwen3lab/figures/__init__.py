"""Figures: a result in, a `plotly` figure out; never shown, never computed here."""

from qwen3lab.figures.attention import attention_map
from qwen3lab.figures.budget import budget_curve
from qwen3lab.figures.growth import growth
from qwen3lab.figures.routing import expert_load, routing_map
from qwen3lab.figures.uncertainty import blank_uncertainty, uncertainty

__all__ = [
    "attention_map",
    "blank_uncertainty",
    "budget_curve",
    "expert_load",
    "growth",
    "routing_map",
    "uncertainty",
]
