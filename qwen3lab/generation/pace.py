"""How fast a model reads and writes on this machine, measured by a few steps."""

import itertools
import statistics
import time
from dataclasses import dataclass

from qwen3lab.generation.decoding import Decoder, decode
from qwen3lab.generation.sampling import Sampler, Sampling

READ_TOKENS = 32
"""Length of the prompt that is timed."""
STEPS, STEPS_ON_A_GPU = 4, 20
"""Timed steps. The first few are slower; on a GPU, those before the steps are captured."""
COUNTED = 3
"""Last steps, whose median counts."""


@dataclass(frozen=True)
class Pace:
    """Times of a model on one machine.

    Attributes:
        seconds_per_token: of a prompt.
        seconds_per_step: for one more token in each row of a batch.
    """

    seconds_per_token: float
    seconds_per_step: float


class _NoEnd:
    """A guide that neither inserts a token nor ends the row."""

    def next(self, drawn: int) -> int | None:
        return None

    def take(self, token_id: int) -> bool:
        return False


def measure_pace(decoder: Decoder, *, rows: int = 1) -> Pace:
    """Time a short prompt and a few decoding steps.

    Args:
        decoder: of the model.
        rows: size of the batch.
    """
    n_steps = STEPS_ON_A_GPU if decoder.device.type == "cuda" else STEPS
    steps = decode(
        decoder,
        [[0] * (READ_TOKENS // rows or 1)] * rows,
        sampler=Sampler(Sampling.greedy(), seeds=range(rows)),
        guides=[_NoEnd()] * rows,
        max_new_tokens=n_steps + 1,
    )
    times = [time.perf_counter()]
    for _ in steps:
        times.append(time.perf_counter())
    seconds = [after - before for before, after in itertools.pairwise(times)]
    n_read = rows * (READ_TOKENS // rows or 1)
    return Pace(seconds[0] / n_read, statistics.median(seconds[-COUNTED:]))
