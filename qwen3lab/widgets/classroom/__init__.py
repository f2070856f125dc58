"""Students' questions and answers side by side, through a folder that the class shares."""

from qwen3lab.widgets.classroom.board import ClassBoard

__all__ = ["ClassBoard"]
