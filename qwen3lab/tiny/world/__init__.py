"""The synthetic data of the embedded models: task families, problems, documents, tokenizer."""

from typing import Any

from qwen3lab._moved import renamed


def __getattr__(name: str) -> Any:
    """Names of before 0.2, with a warning."""
    return renamed("tiny.world", name)
