"""Recording a corpus with one and with two workers of Ray, of one thread each."""

import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from qwen3lab import corpus
from qwen3lab.bench.plan import BenchPlan
from qwen3lab.bench.report import OURS, Measurement
from qwen3lab.corpus.folder import Folder

ONE = "one worker"
PART_ROWS = 16
"""Rows of a part: so small that two workers end at nearly the same time."""
NOTE = (
    "Ray: tokens per second from the first part that each worker finished on, so without the start "
    f"of the cluster; {OURS} is two workers of one thread each. It needs a processor for each."
)


def has_ray() -> bool:
    """True if Ray is installed."""
    return find_spec("ray") is not None


def measured_on_ray(
    plan: BenchPlan, texts: Sequence[list[int]], tick: Callable[[], object]
) -> Measurement:
    """Rates of two workers and of one, on the same texts."""
    rates = dict[str, tuple[float, ...]]()
    for side, workers in ((ONE, 1), (OURS, 2)):
        runs = [_rate(plan, texts, workers) for _ in range(plan.repeats)]
        rates[side] = tuple(runs)
        tick()
    n_tokens = sum(map(len, texts))
    return Measurement("counts on Ray", n_tokens, "tokens/s", rates)


def _rate(plan: BenchPlan, texts: Sequence[list[int]], workers: int) -> float:
    with tempfile.TemporaryDirectory(prefix="qwen3lab-bench-") as folder:
        run = corpus.record(
            [{"text": ids} for ids in texts],
            model=str(plan.model),
            out=Path(folder) / "run",
            part_rows=PART_ROWS,
            ray=True,
            workers=workers,
            progress=False,
            load_options={"device": plan.device, "dtype": plan.dtype},
        )
        return steady_rate(run.folder, workers)


def steady_rate(folder: Path, workers: int) -> float:
    """Tokens per second after each worker has finished a part, by the times of the files.

    Args:
        folder: of a run with more parts than workers.
        workers: that ran it at the same time.
    """
    own = Folder(folder)
    ended = sorted(
        (own.table("rows", part).stat().st_mtime, entry["tokens"])
        for part, entry in own.done().items()
    )
    begun, rest = ended[workers - 1][0], ended[workers:]
    return sum(tokens for _, tokens in rest) / max(rest[-1][0] - begun, 1e-9)
