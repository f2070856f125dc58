"""Runs a benchmark: agreement first, then times in alternation, then memory."""

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.bench.contestants import CONTESTANTS, PACKAGES, Contestant, installed
from qwen3lab.bench.memory import extra_bytes
from qwen3lab.bench.plan import PROMPT_TO_DECODE, BenchError, Plan, weights_of
from qwen3lab.bench.report import MEMORY, Report, Row

TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
SUITES = {
    "forward": {"forward": "forward"},
    "record": {"record": "forward, recording attention and routing"},
    "decode": {
        "decode": "decode",
        "decode_recording": "decode, recording attention and routing",
    },
}
"""The methods of contestants that each suite times, and what the report calls them."""

MEMORY_OF = {"forward": "memory, forward", "record": "memory, recording"}


def run(plan: Plan, suites: Sequence[str] = tuple(SUITES), *, progress: bool = True) -> Report:
    """Measure this package beside `transformers`, and beside what else is installed of its peers.

    They take turns within each case, so that a machine that slows down slows all.

    Args:
        plan: what to measure.
        suites: of `SUITES`; forward and record measure time and memory.
        progress: show a bar.

    Raises:
        BenchError: they do not compute the same, so that their times mean nothing.
        CheckpointError: the plan's model does not open.
    """
    names = installed()
    cases = _cases(plan, suites)
    memory = [(method, n) for n in plan.tokens for method in MEMORY_OF if method in suites]
    n_runs = len(names) * (len(cases) * (plan.repeats + 1) + len(memory))
    bar = tqdm(total=n_runs, disable=not progress)
    with on_threads(plan.threads) as threads, weights_of(plan) as folder, bar:
        bar.set_description("loading")
        sides = [CONTESTANTS[name](folder, plan.device, plan.dtype) for name in names]
        with torch.no_grad():
            gap = agreement_of(plan, sides)
            rows = [_timed(plan, *case, sides, bar) for case in cases]
        del sides
        rows += [
            _peak(plan, method, n, names, folder=folder, threads=threads, bar=bar)
            for method, n in memory
        ]
    agreement = f"All give the same logits, but for {gap:.1e} of their size."
    notes = (MEMORY,) if memory else ()
    return Report(plan.title, machine(plan, threads), agreement, gap, rows, notes=notes)


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


def _cases(plan: Plan, suites: Sequence[str]) -> list[tuple[str, str, int]]:
    """Method, what to call it, and tokens, of all that is timed."""
    methods = {name: label for suite in suites for name, label in SUITES[suite].items()}
    decoding = SUITES["decode"]
    lengths = {name: (plan.decode,) if name in decoding else plan.tokens for name in methods}
    return [(name, label, n) for name, label in methods.items() for n in lengths[name]]


def agreement_of(plan: Plan, sides: Sequence[Contestant]) -> float:
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


def _timed(
    plan: Plan, method: str, label: str, tokens: int, sides: Sequence[Contestant], bar: tqdm
) -> Row:
    """One case, a warm-up and then `repeats` rounds of runs."""
    bar.set_description(label)
    decoding = method in SUITES["decode"]
    ids = prompt(sides[0], PROMPT_TO_DECODE if decoding else tokens)
    arguments = (ids, tokens) if decoding else (ids,)
    able = {side.name: getattr(side, method) for side in sides if method in side.cases}
    seconds = in_turns(
        {name: partial(job, *arguments) for name, job in able.items()}, plan.repeats, bar.update
    )
    unit = "tokens/s" if decoding else "ms"
    measured = {
        name: tuple(tokens / s if decoding else 1e3 * s for s in runs)
        for name, runs in seconds.items()
    }
    return Row(label, tokens, unit, measured)


def _peak(
    plan: Plan,
    method: str,
    tokens: int,
    names: Sequence[str],
    *,
    folder: Path,
    threads: int,
    bar: tqdm,
) -> Row:
    """Peak memory of a case on every side."""
    bar.set_description(MEMORY_OF[method])
    options = {"tokens": tokens, "device": plan.device, "dtype": plan.dtype, "threads": threads}
    measured = {}
    for name in names:
        if method in CONTESTANTS[name].cases:
            measured[name] = _mib(extra_bytes(name, method, folder, **options))
        bar.update()
    return Row(MEMORY_OF[method], tokens, "MiB", measured)


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


def _mib(n_bytes: int | None) -> tuple[float, ...]:
    return () if n_bytes is None else (n_bytes / 2**20,)


def machine(plan: Plan, threads: int) -> dict[str, str]:
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
