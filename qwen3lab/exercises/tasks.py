"""The exercises of the notebooks, in order, and how a student stands with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwen3lab.exercises.progress import Entry, Progress

EASY, MEDIUM, HARD = "easy", "medium", "hard"

BY_NOTEBOOK = {
    "00_start_here": {
        "most_attended": EASY,
        "heaviest_expert": EASY,
        "most_uncertain": MEDIUM,
        "enough_thinking": MEDIUM,
        "needs_thinking": HARD,
    },
    "01_attention": {
        "best_head duplicate": EASY,
        "best_head induction": MEDIUM,
        "sink_heads": MEDIUM,
        "reads_token": MEDIUM,
        "needed_head": HARD,
    },
    "02_expert_routing": {
        "busiest_expert": EASY,
        "surest_router": MEDIUM,
        "specialist": MEDIUM,
        "partner": MEDIUM,
        "hurts_most": HARD,
    },
    "03_thinking_budget": {
        "budget_needed": EASY,
        "cheapest_budget": MEDIUM,
        "settles": MEDIUM,
        "crucial_part": MEDIUM,
        "mentions_hint": HARD,
    },
    "04_how_it_grows": {
        "formed previous token": EASY,
        "last_family": MEDIUM,
        "head_of_kind duplicate token": MEDIUM,
        "feeds_induction": HARD,
        "chance_overlap": EASY,
    },
    "05_why": {
        "first_layer": EASY,
        "strongest_head": MEDIUM,
        "decisive_cell": MEDIUM,
        "changes_the_text": MEDIUM,
        "reads_label": HARD,
    },
    "06_at_scale": {
        "expert_of_label": EASY,
        "nearest_expert": MEDIUM,
        "layer_of_topic": MEDIUM,
        "experts_needed": MEDIUM,
        "best_half_for": HARD,
    },
}
"""Names as they stand in a student's progress, with their difficulty."""


@dataclass(frozen=True)
class Task:
    """One exercise of a notebook.

    Attributes:
        notebook: its name without an ending.
        name: of the exercise, as in a student's progress.
        difficulty: "easy", "medium" or "hard".
    """

    notebook: str
    name: str
    difficulty: str


TASKS = tuple(
    Task(notebook, name, difficulty)
    for notebook, names in BY_NOTEBOOK.items()
    for name, difficulty in names.items()
)


def tasks_of(notebook: str) -> list[Task]:
    """The exercises of one notebook; none for one that has none."""
    return [task for task in TASKS if task.notebook == notebook]


def standing(progress: Progress) -> list[dict[str, Any]]:
    """A row for each exercise: notebook, exercise, difficulty, tries, hints, solved."""
    rows = [_row(task, progress.exercises) for task in TASKS]
    known = {task.name for task in TASKS}
    others = [Task("", name, "") for name in progress.exercises if name not in known]
    return rows + [_row(task, progress.exercises) for task in others]


def _row(task: Task, entries: Mapping[str, Entry]) -> dict[str, Any]:
    entry = entries.get(task.name, Entry())
    return {
        "notebook": task.notebook,
        "exercise": task.name,
        "difficulty": task.difficulty,
        "tries": entry.tries,
        "hints": entry.hints,
        "solved": entry.solved,
    }
