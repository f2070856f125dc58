"""Questions to begin with: what a model was made for."""

from pathlib import Path

GENERAL = (
    "How many legs do 3 spiders have?",
    "What is 17 times 6?",
    "Anna is older than Ben, and Ben is older than Cleo. Who is the youngest?",
    "一只蜘蛛有八条腿，三只有多少条？",
)
"""For a published model, which knows a little of everything."""

ARITHMETIC = (
    "Start at 7, add 5, times 3, minus 4. Last digit?",
    "Begin with 8, plus 6. Last digit?",
    "Take 3, times 7, plus 8, subtract 5, times 9, add 6. What is the last digit?",
    "4 + 9 * 3 - 8 + 5 * 7 - 6 = ?",
    "Start at 2, times 9, minus 5. Last digit? /no_think",
)
"""For the embedded models: from left to right, only the last digit counts."""


def questions_for(name: str) -> tuple[str, ...]:
    """Examples for the model of this name, the best to begin with first."""
    return ARITHMETIC if Path(name).name.startswith("tiny-") else GENERAL
