"""Shared by all suites: alternating timing, thread count, agreement, machine description."""

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version

import torch
from torch import Tensor

from qwen3lab.bench.peers import PACKAGES, Contestant, installed
from qwen3lab.bench.plan import BenchPlan
from qwen3lab.errors import BenchError

TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
"""Largest accepted relative difference between the outputs of two libraries, by dtype."""


@contextmanager
def on_threads(n_threads: int | None) -> Iterator[int]:
    """Sets torch's number of CPU threads inside the `with` block; yields the number.

    Args:
        n_threads: number of threads; None leaves the number as it is.
    """
    before = torch.get_num_threads()
    threads = before if n_threads is None else n_threads
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(before)


def agreement_of(plan: BenchPlan, sides: Sequence[Contestant]) -> float:
    """The largest relative RMS difference between the logits of the first side and the others.

    It is not the largest single difference: at low precision, rounding can change a router's
    choice between two nearly equal experts, which changes the logits of single tokens a lot.

    Raises:
        BenchError: the difference is larger than `TOLERANCE` of the dtype.
    """
    ids = prompt(sides[0], min(64, max(plan.tokens)))
    ours, *others = [side.forward(ids).float() for side in sides]
    gap = max(float((ours - peer).norm() / peer.norm()) for peer in others)
    if not gap <= TOLERANCE[plan.dtype]:
        raise BenchError(
            f"the logits of the libraries differ by {gap:.1e} (relative RMS), above "
            f"{TOLERANCE[plan.dtype]:.0e} for {plan.dtype}: their times are not comparable"
        )
    return gap


def in_turns(
    jobs: Mapping[str, Callable[[], object]], repeats: int, tick: Callable[[], object]
) -> dict[str, list[float]]:
    """Seconds of each job, measured in alternation.

    Each round runs all jobs once, so that a change of the machine's speed affects all of them.
    Every second round runs in reverse order, so that no job always runs after the same one. The
    first round is a warm-up and does not count.

    Args:
        jobs: the functions to time, by name.
        repeats: number of timed rounds.
        tick: called after each run.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(repeats + 1):
        for name in list(jobs)[:: -1 if number % 2 else 1]:
            seconds[name].append(_seconds_of(jobs[name]))
            tick()
    return {name: runs[1:] for name, runs in seconds.items()}


def prompt(side: Contestant, tokens: int) -> Tensor:
    """Random token ids, the same for all sides."""
    generator = torch.Generator().manual_seed(tokens)
    ids = torch.randint(0, side.d_vocab, (1, tokens), generator=generator)
    return ids.to(side.model.device)


def _seconds_of(job: Callable[[], object]) -> float:
    """The duration of a job, including its work on the GPU."""
    _synchronise()
    start = time.perf_counter()
    result = job()
    _synchronise()
    seconds = time.perf_counter() - start
    del result  # Freed outside the timed interval.
    return seconds


def _synchronise() -> None:
    """Waits until the GPU has finished its queued kernels."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine(plan: BenchPlan, threads: int) -> dict[str, str]:
    """Device, dtype, versions and allocator settings of a benchmark."""
    on_gpu = torch.device(plan.device).type == "cuda"
    hardware = torch.cuda.get_device_name() if on_gpu else platform.machine()
    return {
        "device": f"{plan.device} ({hardware}, {threads} of {os.cpu_count()} CPU threads)",
        "dtype": plan.dtype,
        "torch": torch.__version__,
        "transformers": version("transformers"),
        **{name: version(PACKAGES[name]) for name in installed() if name in PACKAGES},
        "qwen3lab": version("qwen3lab"),
        "allocator": allocator(),
    }


def allocator() -> str:
    """Environment variables of the memory allocators, which affect the time of large tensors."""
    names = ("LD_PRELOAD", "MALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    names += tuple(name for name in sorted(os.environ) if name.startswith("MALLOC_"))
    variables = {name: os.environ[name] for name in names if os.environ.get(name)}
    return " ".join(f"{name}={value}" for name, value in variables.items()) or "default"
