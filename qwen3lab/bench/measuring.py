"""What every suite shares: timing in alternation, threads, agreement, the machine's description."""

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


@contextmanager
def on_threads(wanted: int | None) -> Iterator[int]:
    """So many threads of the CPU for a while, torch's choice if None; gives their number."""
    before = torch.get_num_threads()
    threads = before if wanted is None else wanted
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(before)


def agreement_of(plan: BenchPlan, sides: Sequence[Contestant]) -> float:
    """How far the sides' logits are apart: root mean square, as a share of that of the logits.

    (Not the largest gap: in few bits a router's near choice may fall either way, which moves
    single tokens far.)

    Raises:
        BenchError: it is more than the dtype explains.
    """
    ids = prompt(sides[0], min(64, max(plan.tokens)))
    mine, *others = [side.forward(ids).float() for side in sides]
    gap = max(float((mine - peer).norm() / peer.norm()) for peer in others)
    if not gap <= TOLERANCE[plan.dtype]:
        raise BenchError(
            f"they disagree by {gap:.1e} of the logits' size, where {plan.dtype} allows "
            f"{TOLERANCE[plan.dtype]:.0e}: their times would not compare"
        )
    return gap


def in_turns(
    jobs: Mapping[str, Callable[[], object]], repeats: int, tick: Callable[[], object]
) -> dict[str, list[float]]:
    """Seconds of each job, round after round, so that a machine that slows down slows all.

    Every other round goes backwards: none always follows the same one. A first round warms up
    and is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(repeats + 1):
        for name in list(jobs)[:: -1 if number % 2 else 1]:
            seconds[name].append(_seconds_of(jobs[name]))
            tick()
    return {name: runs[1:] for name, runs in seconds.items()}


def prompt(side: Contestant, tokens: int) -> Tensor:
    """Random tokens, the same on all sides."""
    generator = torch.Generator().manual_seed(tokens)
    ids = torch.randint(0, side.d_vocab, (1, tokens), generator=generator)
    return ids.to(side.model.device)


def _seconds_of(job: Callable[[], object]) -> float:
    """How long a job takes, the device's work included."""
    _finish()
    start = time.perf_counter()
    kept = job()
    _finish()
    seconds = time.perf_counter() - start
    del kept
    return seconds


def _finish() -> None:
    """A GPU works on while Python goes ahead."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine(plan: BenchPlan, threads: int) -> dict[str, str]:
    """Where it was measured, and with which versions."""
    on_gpu = torch.device(plan.device).type == "cuda"
    where = torch.cuda.get_device_name() if on_gpu else platform.machine()
    return {
        "device": f"{plan.device} ({where}, {threads} of {os.cpu_count()} CPU threads)",
        "dtype": plan.dtype,
        "torch": torch.__version__,
        "transformers": version("transformers"),
        **{name: version(PACKAGES[name]) for name in installed() if name in PACKAGES},
        "qwen3lab": version("qwen3lab"),
        "allocator": allocator(),
    }


def allocator() -> str:
    """Settings of the C allocator that decide what large tensors cost on a CPU."""
    names = ("LD_PRELOAD", "MALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    names += tuple(name for name in sorted(os.environ) if name.startswith("MALLOC_"))
    given = {name: os.environ[name] for name in names if os.environ.get(name)}
    return " ".join(f"{name}={value}" for name, value in given.items()) or "default"
