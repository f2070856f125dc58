"""Training of the embedded models: recipes, batches, optimisers, training loop, log."""

from typing import Any

from qwen3lab._moved import renamed


def __getattr__(name: str) -> Any:
    """Names of before 0.2, with a warning."""
    return renamed("tiny.training", name)
