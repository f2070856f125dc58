"""Example questions for each kind of model."""

from pathlib import Path

GENERAL = (
    "How many legs do 3 spiders have?",
    "What is 17 times 6?",
    "Anna is older than Ben, and Ben is older than Cleo. Who is the youngest?",
    "一只蜘蛛有八条腿，三只有多少条？",
)
"""For published models, which have general knowledge."""

TINY = (
    "7+2*3-1*7+3=?",
    "Ann has the key. Ben has the ball. Eva has the cup. Ann and Ben swap. Ben and Eva swap. "
    "What does Eva have?",
    "小明拿着球。小红拿着书。小刚拿着灯。小明和小红交换。小红和小刚交换。小刚拿着什么？",
    "2加3乘7减1等于几？",
    "4*3+1-2*7+2-3*3+1-1*7=?",
    "6-2*3=? /no_think",
    "lamp 2, book 7, cat 1. book?",
)
"""For the embedded models; arithmetic runs from left to right and keeps the last digit only."""

MICRO = (TINY[0], TINY[3], TINY[6])
"""For the micro model, which is trained on arithmetic and lists, but not on swaps."""


def questions_for(name: str) -> tuple[str, ...]:
    """Example questions for the model of this name; the first one is the default."""
    kind = Path(name).name.partition("-")[0]
    return {"tiny": TINY, "micro": MICRO}.get(kind, GENERAL)
