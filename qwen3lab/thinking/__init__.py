"""Experiments on thinking: budget sweeps, answers along a thinking text, importance of its parts.

`sweep` answers problems within several thinking budgets, `convergence` asks for the answer at each
point of a finished thinking text, `importance` measures how each part changes the answer.
"""

from qwen3lab.thinking.convergence import (
    Convergence,
    answers_at,
    convergence,
    convergence_cost,
)
from qwen3lab.thinking.cost import Cost, sweep_cost
from qwen3lab.thinking.graders import GRADERS, Grader
from qwen3lab.thinking.importance import Importance, importance, importance_cost
from qwen3lab.thinking.pieces import Piece, pieces
from qwen3lab.thinking.problems import Exercise, Problem, read_problems
from qwen3lab.thinking.rewind import Answer
from qwen3lab.thinking.sweep import sweep
from qwen3lab.thinking.swept import Attempt, Sweep

__all__ = [
    "GRADERS",
    "Answer",
    "Attempt",
    "Convergence",
    "Cost",
    "Exercise",
    "Grader",
    "Importance",
    "Piece",
    "Problem",
    "Sweep",
    "answers_at",
    "convergence",
    "convergence_cost",
    "importance",
    "importance_cost",
    "pieces",
    "read_problems",
    "sweep",
    "sweep_cost",
]
