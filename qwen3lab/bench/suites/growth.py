"""How time and memory grow: by tokens, layers, experts and batch of a pass, and heads looked at."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.bench.fresh_process import in_fresh_process
from qwen3lab.bench.measuring import machine
from qwen3lab.bench.memory import peak_bytes, start_counting
from qwen3lab.bench.plan import BenchPlan
from qwen3lab.bench.report import OURS, Measurement, Report
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.dtypes import DTYPES
from qwen3lab.device.malloc import map_large
from qwen3lab.hooks.points import resolve_hooks
from qwen3lab.model.transformer import Qwen3
from qwen3lab.recording.recorder import ATTENTION, Recorder
from qwen3lab.recording.views import AttentionView

SMALL = Qwen3Config(
    d_model=128,
    n_layers=4,
    n_heads=4,
    n_kv_heads=2,
    d_head=32,
    d_mlp=256,
    d_vocab=512,
    n_ctx=2**20,
    n_experts=16,
    n_experts_per_token=4,
    d_expert=64,
    moe_layers=tuple(range(4)),
)
"""The model that is varied, about the size of tiny-moe."""

AXES = {
    "tokens": (512, 1024, 2048, 4096, 8192, 16384),
    "layers": (2, 4, 8, 16),
    "experts": (8, 16, 32, 64),
    "batch": (1, 2, 4, 8, 16),
    "heads": (1, 2, 4, 8, 16, 32),
}
"""What is varied, one at a time, and its sizes."""

TOKENS = 256
"""Length of the prompt where it is not varied."""

TOKENS_LOOKED_AT = 1024
"""Length of the recording whose heads are looked at."""

NOTE = (
    "Random weights of a small model. An exponent e says that the value grows as size to the power "
    "of e: it is the slope of a straight line through the logarithms, by least squares over the "
    "larger half of the sizes. By heads: the patterns of so many heads, computed from a recording "
    "of 1,024 tokens. 0 is no growth, 1 proportional, 2 quadratic. Memory: peak above the "
    "weights. Each size runs in a process of its own."
)


@dataclass(frozen=True)
class Point:
    """One forward pass: seconds of each run, and peak bytes above the weights."""

    seconds: tuple[float, ...]
    extra_bytes: int | None


def run_growth(
    plan: BenchPlan, *, axes: dict[str, Sequence[int]] | None = None, progress: bool = True
) -> Report:
    """Measure forward passes of growing size, and fit how time and memory grow.

    Args:
        plan: uses repeats, threads, device and dtype; the model is a small one of random weights.
        axes: sizes of "tokens", "layers", "experts", "batch" or "heads"; None for `AXES`.
        progress: show a bar.

    Raises:
        BenchError: a process died, as where memory runs out.
    """
    sizes_of = axes or AXES
    rows, notes = [], [NOTE]
    with tqdm(total=sum(map(len, sizes_of.values())), disable=not progress) as bar:
        for axis, sizes in sizes_of.items():
            points = []
            for size in sizes:
                points.append(in_fresh_process(_measured, plan, axis, size))
                bar.update()
            rows += _rows(axis, sizes, points)
            notes.append(_growth_of(axis, sizes, points))
    threads = plan.threads or torch.get_num_threads()
    agreement = "Only qwen3lab runs."
    title = "Growth of a forward pass, small random models"
    header = machine(plan, threads)
    return Report(title, header, agreement, 0.0, rows, sizes="size", notes=tuple(notes))


def exponent(sizes: Sequence[int | float], values: Sequence[int | float]) -> float:
    """The slope of a line through the logarithms, by least squares over the larger half.

    Args:
        sizes: ascending, at least two.
        values: one per size, above 0.
    """
    first = min(len(sizes) // 2, len(sizes) - 2)
    x = [math.log(size) for size in sizes[first:]]
    y = [math.log(value) for value in values[first:]]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)


def _case(axis: str, size: int) -> tuple[Qwen3Config, int, int]:
    """The config, the batch and the tokens of a size."""
    config = SMALL
    if axis == "layers":
        config = replace(SMALL, n_layers=size, moe_layers=tuple(range(size)))
    if axis == "experts":
        config = replace(SMALL, n_experts=size)
    if axis == "heads":
        one = replace(SMALL, n_layers=1, moe_layers=(0,), n_heads=size, n_kv_heads=1)
        return one, 1, TOKENS_LOOKED_AT
    return config, size if axis == "batch" else 1, size if axis == "tokens" else TOKENS


def _job(axis: str, model: Qwen3, ids: Tensor) -> Callable[[], object]:
    """What is measured: a pass, or the patterns of all heads of a recorded one."""
    if axis != "heads":
        return partial(model, ids)
    recorder = Recorder(resolve_hooks(ATTENTION, model.config))
    model(ids, tap=recorder)
    view = AttentionView(model.config, recorder.cut([(0, ids.shape[1])])[0])
    return lambda: [view[0, head] for head in range(model.config.n_heads)]


@torch.no_grad()
def _measured(plan: BenchPlan, axis: str, size: int) -> Point:
    config, batch, tokens = _case(axis, size)
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    # Without this, freed memory that glibc does not return to the system would count.
    map_large()
    model = Qwen3(config, device=plan.device, dtype=DTYPES[plan.dtype]).eval()
    model.init_weights(torch.Generator(plan.device).manual_seed(0))
    ids = torch.arange(batch * tokens, device=plan.device).view(batch, tokens) % config.d_vocab
    model(ids[:, :1])
    job = _job(axis, model, ids)
    before = start_counting(plan.device)
    job()
    after = peak_bytes(plan.device)
    seconds = []
    for _ in range(plan.repeats):
        start = time.perf_counter()
        job()
        if torch.device(plan.device).type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    extra = None if before is None or after is None else max(after - before, 0)
    return Point(tuple(seconds), extra)


def _rows(axis: str, sizes: Sequence[int], points: Sequence[Point]) -> list[Measurement]:
    times = [
        Measurement(f"time by {axis}", n, "ms", {OURS: tuple(1e3 * s for s in point.seconds)})
        for n, point in zip(sizes, points, strict=True)
    ]
    memory = [
        Measurement(f"memory by {axis}", n, "MiB", {OURS: (point.extra_bytes / 2**20,)})
        for n, point in zip(sizes, points, strict=True)
        if point.extra_bytes is not None
    ]
    return times + memory


def _growth_of(axis: str, sizes: Sequence[int], points: Sequence[Point]) -> str:
    """A sentence with the exponents; the fastest run counts, as others wait for the machine."""
    time_of = exponent(sizes, [min(point.seconds) for point in points])
    found = [point.extra_bytes for point in points if point.extra_bytes]
    memory = f", memory to {exponent(sizes, found):.2f}" if len(found) == len(sizes) else ""
    return f"With {axis}, time grows to the power of {time_of:.2f}{memory}."
