"""Lists the models that ship inside the package, and all known models as a table."""

import re
from collections.abc import Sized
from pathlib import Path
from typing import Any

from qwen3lab.config.catalog import ModelTable, model_table
from qwen3lab.config.qwen3_config import Qwen3Config

EMBEDDED = Path(__file__).parents[1] / "tiny" / "models"

REVISION = re.compile(r"step\d+|v\d+(-step\d+)?")
"""Names of the revisions of an embedded model."""

FIRST_EDITION = 1
"""The edition of models whose tokenizer names none."""

N_VOCAB = 1536
"""Tokens of the embedded models' tokenizer."""


def is_embedded(tokenizer: Any) -> bool:
    """True if this is the tokenizer of the models that ship with the package."""
    return isinstance(tokenizer, Sized) and len(tokenizer) == N_VOCAB


def edition_of(tokenizer: Any) -> int:
    """The edition of the embedded models' world that this tokenizer belongs to.

    The first edition knew arithmetic on last digits only, and had no tokens for larger numbers.
    """
    return tokenizer.init_kwargs.get("world", FIRST_EDITION)


def embedded_models() -> list[str]:
    """Names of the models that ship inside the package."""
    return sorted(path.parent.name for path in EMBEDDED.glob("*/config.json"))


def embedded_revisions(name: str) -> list[str]:
    """The revisions of an embedded model, each in a folder of its name.

    First the early checkpoints of its training, such as "step250", in training order; then the
    editions that it replaced, such as "v1", each with its early checkpoints, such as "v1-step250".
    """
    found = [path.parent.name for path in (EMBEDDED / name).glob("*/config.json")]
    return sorted((each for each in found if REVISION.fullmatch(each)), key=_order)


def early_revisions(name: str) -> list[str]:
    """The early checkpoints of an embedded model's training, without those of other editions."""
    return [revision for revision in embedded_revisions(name) if revision.startswith("step")]


def _order(revision: str) -> tuple[int, int]:
    """The edition and the step of a revision; 0 for today's edition, -1 for final weights."""
    edition, step = re.search(r"v(\d+)", revision), re.search(r"step(\d+)", revision)
    return int(edition[1]) if edition else 0, int(step[1]) if step else -1


def models() -> ModelTable:
    """A table of the models that ship with the package, followed by the published models."""
    return model_table({n: Qwen3Config.from_file(EMBEDDED / n) for n in embedded_models()})
