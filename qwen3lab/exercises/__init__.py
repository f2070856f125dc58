"""Checks of exercise answers; each check returns a verdict with a reason in one sentence."""

from qwen3lab.exercises.attention import SCORES, best_head, reads_most, sink_token
from qwen3lab.exercises.routing import busiest_expert, hurts_most, specialist
from qwen3lab.exercises.thinking import budget_needed, crucial_part, settles
from qwen3lab.exercises.verdict import NO_ANSWER, Verdict
from qwen3lab.exercises.why import changes_the_text, decisive_cell, first_layer, strongest_head

__all__ = [
    "NO_ANSWER",
    "SCORES",
    "Verdict",
    "best_head",
    "budget_needed",
    "busiest_expert",
    "changes_the_text",
    "crucial_part",
    "decisive_cell",
    "first_layer",
    "hurts_most",
    "reads_most",
    "settles",
    "sink_token",
    "specialist",
    "strongest_head",
]
