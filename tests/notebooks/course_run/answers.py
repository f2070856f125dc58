"""What the student of the course run tries at each exercise."""

import re
from collections.abc import Iterator

from qwen3lab.course.solutions import SOLUTIONS
from qwen3lab.exercises.tasks import BY_NOTEBOOK

OPEN = re.compile(r"\b(answer|after)=None")
WRONG = {
    "most_attended": "12",
    "heaviest_expert": "int(rec.routing.layer(last_layer).experts.flatten().mode().values)",
    "most_uncertain": "3",
    "enough_thinking": "500",
    "needs_thinking": "'3+4=?'",
    "best_head duplicate": "(0, 0)",
    "best_head induction": "(0, 0)",
    "sink_heads": "0",
    "reads_token": "(0, 0)",
    "needed_head": "(5, 3)",
    "busiest_expert": "int(rec.routing.layer(layer).experts.flatten().mode().values)",
    "surest_router": "2",
    "specialist": "0",
    "partner": "3",
    "hurts_most": "rerouting.off(0, layers=3)",
    "budget_needed": "max(suggested.budgets)",
    "cheapest_budget": "0",
    "settles": "0",
    "crucial_part": "0",
    "mentions_hint": "'3+4=?'",
    "formed previous token": "childhood[-1].step",
    "last_family": "'sums'",
    "head_of_kind duplicate token": "(0, 0)",
    "feeds_induction": "(1, 2)",
    "chance_overlap": "0.25",
    "first_layer": "0",
    "strongest_head": "(0, 0)",
    "decisive_cell": "(0, 0)",
    "changes_the_text": "before",
    "reads_label": "'layer 2'",
    "expert_of_label": "0",
    "nearest_expert": "12",
    "layer_of_topic": "0",
    "experts_needed": "1",
    "best_half_for": "scores.reap",
}
"""Answers that are not right, by the name of the exercise; some are no answer at all."""


def tries(name: str, source: str) -> Iterator[tuple[str, str]]:
    """What is tried, and the source of the exercise's cell for it."""
    yield "wrong", answered(source, WRONG[name])
    for number in (1, 2, 3):
        yield f"hint {number}", source.replace("hint=0", f"hint={number}")
    yield "right", answered(source, SOLUTIONS[name])


def answered(source: str, answer: str) -> str:
    """The cell with an answer in place of None."""
    return OPEN.sub(lambda found: f"{found[1]}={answer}", source)


def exercises_of(notebook: str, sources: list[str]) -> dict[int, str]:
    """The names of a notebook's exercises, by the places of their cells."""
    places = [place for place, source in enumerate(sources) if OPEN.search(source)]
    return dict(zip(places, BY_NOTEBOOK.get(notebook, ()), strict=True))
