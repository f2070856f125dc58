"""How many cases each fuzz suite tries, and what counts as a refusal.

`QWEN3LAB_FUZZ_CASES` is the number of cases in all (2,000 without it: what CI runs); each suite
takes its share. `QWEN3LAB_FUZZ_SEED` starts another sequence of cases: without it the sequence is
the same in every run, so a failure in CI repeats on any machine.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, seed, settings

from qwen3lab.errors import Qwen3LabError

TOTAL_CASES = int(os.environ.get("QWEN3LAB_FUZZ_CASES", 2_000))
SEED = os.environ.get("QWEN3LAB_FUZZ_SEED")

# Shares of all cases, by the name of the suite: they add up to 2, as formats are many.
SHARES = {
    "checkpoints": 0.15,
    "configs": 0.15,
    "recordings": 0.2,
    "formats": 1.0,
    "disk_folders": 0.1,
    "sweep_files": 0.1,
    "problem_files": 0.1,
    "chats": 0.1,
    "templates": 0.1,
}

MAX_REFUSAL_CHARACTERS = 600


def fuzz(suite: str, part: float = 1.0) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator of a Hypothesis test: it tries `part` of the cases of `suite`."""
    examples = max(1, round(TOTAL_CASES * SHARES[suite] * part))
    configured = settings(
        max_examples=examples,
        deadline=None,
        derandomize=SEED is None,
        database=None,
        print_blob=SEED is not None,
        suppress_health_check=list(HealthCheck),
    )

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        seeded = test if SEED is None else seed(int(SEED))(test)
        return configured(seeded)

    return decorate


@dataclass
class Outcome:
    """What one case came to: a value, or the sentence of a refusal."""

    value: Any = None
    refusal: str | None = None


@contextmanager
def refusable(*also: type[Exception]) -> Iterator[Outcome]:
    """Catches a refusal into the outcome; any other exception is a finding and passes.

    Args:
        also: exceptions that count as refusals beside the package's own.
    """
    outcome = Outcome()
    try:
        yield outcome
    except (Qwen3LabError, *also) as error:
        outcome.refusal = str(error)
        assert 0 < len(outcome.refusal) <= MAX_REFUSAL_CHARACTERS, outcome.refusal[:2_000]
        assert outcome.refusal.replace("\n", " ").isprintable(), repr(outcome.refusal)
