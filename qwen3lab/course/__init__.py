"""For teachers: slides of the notebooks, a folder that installs without a network."""

from qwen3lab.course.slides import write_slides

__all__ = ["write_slides"]
