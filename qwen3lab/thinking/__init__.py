"""Measures what thinking contributes: budget sweeps, early answers, importance of sentences."""

from qwen3lab.thinking.convergence import Convergence, answers_at, convergence
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
    "Exercise",
    "Grader",
    "Importance",
    "Piece",
    "Problem",
    "Sweep",
    "answers_at",
    "convergence",
    "importance",
    "importance_cost",
    "pieces",
    "read_problems",
    "sweep",
]
