"""Plotly figures of results; a figure computes nothing and is returned, not shown."""

from qwen3lab.figures.atlas import atlas_map, topic_and_type
from qwen3lab.figures.attention import attention_map
from qwen3lab.figures.attribution import attribution_layers, attribution_waterfall
from qwen3lab.figures.budget import (
    accuracy_by_size,
    accuracy_curves,
    budget_curve,
    thinking_lengths,
)
from qwen3lab.figures.difference import difference
from qwen3lab.figures.experts import (
    co_activation,
    knock_out,
    load_difference,
    specialisation,
    token_strip,
    transitions,
)
from qwen3lab.figures.growth import growth
from qwen3lab.figures.handover import save, to_bertviz, to_circuitsvis
from qwen3lab.figures.heads import head_map, sink_profile
from qwen3lab.figures.lens import lens_map
from qwen3lab.figures.patching import patching_map
from qwen3lab.figures.probes import probe_accuracy
from qwen3lab.figures.pruning import pruning_curve
from qwen3lab.figures.ratios import ratios
from qwen3lab.figures.routing import expert_load, routing_map
from qwen3lab.figures.steering import strength_curve
from qwen3lab.figures.thought import answer_looks, convergence, importance
from qwen3lab.figures.uncertainty import uncertainty
from qwen3lab.figures.wall import attention_wall

__all__ = [
    "accuracy_by_size",
    "accuracy_curves",
    "answer_looks",
    "atlas_map",
    "attention_map",
    "attention_wall",
    "attribution_layers",
    "attribution_waterfall",
    "budget_curve",
    "co_activation",
    "convergence",
    "difference",
    "expert_load",
    "growth",
    "head_map",
    "importance",
    "knock_out",
    "lens_map",
    "load_difference",
    "patching_map",
    "probe_accuracy",
    "pruning_curve",
    "ratios",
    "routing_map",
    "save",
    "sink_profile",
    "specialisation",
    "strength_curve",
    "thinking_lengths",
    "to_bertviz",
    "to_circuitsvis",
    "token_strip",
    "topic_and_type",
    "transitions",
    "uncertainty",
]
