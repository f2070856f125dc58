"""Lists the models that ship inside the package, and all known models as a table."""

from collections.abc import Sized
from pathlib import Path
from typing import Any

from qwen3lab.config.catalog import ModelTable, model_table
from qwen3lab.config.qwen3_config import Qwen3Config

EMBEDDED = Path(__file__).parents[1] / "tiny" / "models"

N_VOCAB = 1536
"""Tokens of the embedded models' tokenizer."""


def is_embedded(tokenizer: Any) -> bool:
    """True if this is the tokenizer of the models that ship with the package."""
    return isinstance(tokenizer, Sized) and len(tokenizer) == N_VOCAB


def embedded_models() -> list[str]:
    """Names of the models that ship inside the package."""
    return sorted(path.parent.name for path in EMBEDDED.glob("*/config.json"))


def embedded_revisions(name: str) -> list[str]:
    """Earlier training checkpoints of an embedded model, such as "step250", in training order."""
    steps = [path.parent.name for path in (EMBEDDED / name).glob("step*/config.json")]
    return sorted(steps, key=lambda revision: int(revision.removeprefix("step")))


def models() -> ModelTable:
    """A table of the models that ship with the package, followed by the published models."""
    return model_table({n: Qwen3Config.from_file(EMBEDDED / n) for n in embedded_models()})
