"""Runs a benchmark: agreement first, then times in alternation, then memory."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from tqdm.auto import tqdm

from qwen3lab.bench.measuring import agreement_of, in_turns, machine, on_threads, prompt
from qwen3lab.bench.memory import extra_bytes
from qwen3lab.bench.peers import CONTESTANTS, Contestant, installed
from qwen3lab.bench.plan import PROMPT_TO_DECODE, BenchPlan, weights_of
from qwen3lab.bench.report import MEMORY, Measurement, Report

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


def run(plan: BenchPlan, suites: Sequence[str] = tuple(SUITES), *, progress: bool = True) -> Report:
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


def _cases(plan: BenchPlan, suites: Sequence[str]) -> list[tuple[str, str, int]]:
    """Method, what to call it, and tokens, of all that is timed."""
    methods = {name: label for suite in suites for name, label in SUITES[suite].items()}
    decoding = SUITES["decode"]
    lengths = {name: (plan.decode,) if name in decoding else plan.tokens for name in methods}
    return [(name, label, n) for name, label in methods.items() for n in lengths[name]]


def _timed(
    plan: BenchPlan, method: str, label: str, tokens: int, sides: Sequence[Contestant], bar: tqdm
) -> Measurement:
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
    return Measurement(label, tokens, unit, measured)


def _peak(
    plan: BenchPlan,
    method: str,
    tokens: int,
    names: Sequence[str],
    *,
    folder: Path,
    threads: int,
    bar: tqdm,
) -> Measurement:
    """Peak memory of a case on every side."""
    bar.set_description(MEMORY_OF[method])
    options = {"tokens": tokens, "device": plan.device, "dtype": plan.dtype, "threads": threads}
    measured = {}
    for name in names:
        if method in CONTESTANTS[name].cases:
            measured[name] = _mib(extra_bytes(name, method, folder, **options))
        bar.update()
    return Measurement(MEMORY_OF[method], tokens, "MiB", measured)


def _mib(n_bytes: int | None) -> tuple[float, ...]:
    return () if n_bytes is None else (n_bytes / 2**20,)
