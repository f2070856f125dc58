"""Questions to begin with: what a model was made for."""

GENERAL = (
    "How many legs do 3 spiders have?",
    "What is 17 times 6?",
    "Anna is older than Ben, and Ben is older than Cleo. Who is the youngest?",
    "一只蜘蛛有八条腿，三只有多少条？",
)
"""For a published model, which knows a little of everything."""


def questions_for(name: str) -> tuple[str, ...]:
    """Examples for the model of this name, the best to begin with first."""
    return GENERAL
