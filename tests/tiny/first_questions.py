"""The fifty first questions, which no training document asks."""

from qwen3lab.tiny.world.first_questions import FIRST_QUESTIONS, FirstQuestion, normalised

__all__ = ["FIRST_QUESTIONS", "FirstQuestion", "normalised"]
