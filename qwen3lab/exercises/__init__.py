"""Checks of exercise answers; each check returns a verdict with a reason in one sentence."""

from qwen3lab.exercises.attention import (
    SCORES,
    best_head,
    needed_head,
    reads_token,
    sink_heads,
)
from qwen3lab.exercises.growth import (
    chance_overlap,
    feeds_induction,
    formed,
    head_of_kind,
    last_family,
)
from qwen3lab.exercises.routing import (
    busiest_expert,
    hurts_most,
    partner,
    specialist,
    surest_router,
)
from qwen3lab.exercises.start import (
    enough_thinking,
    heaviest_expert,
    most_attended,
    most_uncertain,
    needs_thinking,
)
from qwen3lab.exercises.thinking import (
    budget_needed,
    cheapest_budget,
    crucial_part,
    mentions_hint,
    settles,
)
from qwen3lab.exercises.verdict import NO_ANSWER, Verdict
from qwen3lab.exercises.why import (
    changes_the_text,
    decisive_cell,
    first_layer,
    reads_label,
    strongest_head,
)

__all__ = [
    "NO_ANSWER",
    "SCORES",
    "Verdict",
    "best_head",
    "budget_needed",
    "busiest_expert",
    "chance_overlap",
    "changes_the_text",
    "cheapest_budget",
    "crucial_part",
    "decisive_cell",
    "enough_thinking",
    "feeds_induction",
    "first_layer",
    "formed",
    "head_of_kind",
    "heaviest_expert",
    "hurts_most",
    "last_family",
    "mentions_hint",
    "most_attended",
    "most_uncertain",
    "needed_head",
    "needs_thinking",
    "partner",
    "reads_label",
    "reads_token",
    "settles",
    "sink_heads",
    "specialist",
    "strongest_head",
    "surest_router",
]
