"""Questions to begin with: what a model was made for."""

from pathlib import Path

GENERAL = (
    "How many legs do 3 spiders have?",
    "What is 17 times 6?",
    "Anna is older than Ben, and Ben is older than Cleo. Who is the youngest?",
    "一只蜘蛛有八条腿，三只有多少条？",
)
"""For a published model, which knows a little of everything."""

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
"""For the embedded models; in a chain only the last digit counts, from left to right."""

MICRO = (TINY[0], TINY[3], TINY[6])
"""For a micro model in training, which learns arithmetic and lists, and of swaps nothing."""


def questions_for(name: str) -> tuple[str, ...]:
    """Examples for the model of this name, the best to begin with first."""
    kind = Path(name).name.partition("-")[0]
    return {"tiny": TINY, "micro": MICRO}.get(kind, GENERAL)
