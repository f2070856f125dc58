"""qwen3lab compared with all installed peers: agreement of logits, then times, then memory."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from tqdm.auto import tqdm

from qwen3lab.bench.measuring import agreement_of, in_turns, machine, on_threads, prompt
from qwen3lab.bench.memory import extra_bytes
from qwen3lab.bench.peers import CONTESTANTS, Contestant, installed
from qwen3lab.bench.plan import PROMPT_TO_DECODE, BenchPlan, weights_of
from qwen3lab.bench.report import MEMORY_NOTE, Measurement, Report

SUITES = {
    "forward": {"forward": "forward"},
    "record": {"record": "forward, recording attention and routing"},
    "decode": {
        "decode": "decode",
        "decode_recording": "decode, recording attention and routing",
    },
}
"""For each suite, the methods of the libraries that it times, with their names in the report."""

MEMORY_CASES = {"forward": "memory, forward", "record": "memory, recording"}
"""The methods whose peak memory is measured, with their names in the report."""


def run(plan: BenchPlan, suites: Sequence[str] = tuple(SUITES), *, progress: bool = True) -> Report:
    """Measure qwen3lab, `transformers`, and the other peers that are installed.

    The libraries run in alternation, so that a change of the machine's speed affects all of them.

    Args:
        plan: the model and settings.
        suites: names in `SUITES`; "forward" and "record" measure time and memory, "decode" time.
        progress: show a bar.

    Raises:
        BenchError: the logits of the libraries differ.
        CheckpointError: the plan's model cannot be opened.
    """
    names = installed()
    cases = _cases(plan, suites)
    memory = [(method, n) for n in plan.tokens for method in MEMORY_CASES if method in suites]
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
    agreement = f"The logits of all libraries agree; relative RMS difference {gap:.1e}."
    notes = (MEMORY_NOTE,) if memory else ()
    return Report(plan.title, machine(plan, threads), agreement, gap, rows, notes=notes)


def _cases(plan: BenchPlan, suites: Sequence[str]) -> list[tuple[str, str, int]]:
    """The method, its name in the report and the number of tokens of each timed case."""
    methods = {name: label for suite in suites for name, label in SUITES[suite].items()}
    decoding = SUITES["decode"]
    lengths = {name: (plan.decode,) if name in decoding else plan.tokens for name in methods}
    return [(name, label, n) for name, label in methods.items() for n in lengths[name]]


def _timed(
    plan: BenchPlan, method: str, label: str, tokens: int, sides: Sequence[Contestant], bar: tqdm
) -> Measurement:
    """The times of one case on all libraries that have it."""
    bar.set_description(label)
    decoding = method in SUITES["decode"]
    ids = prompt(sides[0], PROMPT_TO_DECODE if decoding else tokens)
    arguments = (ids, tokens) if decoding else (ids,)
    jobs = {
        side.name: partial(getattr(side, method), *arguments)
        for side in sides
        if method in side.cases
    }
    seconds = in_turns(jobs, plan.repeats, bar.update)
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
    """The peak memory of a case on all libraries that have it."""
    bar.set_description(MEMORY_CASES[method])
    options = {"tokens": tokens, "device": plan.device, "dtype": plan.dtype, "threads": threads}
    measured = {}
    for name in names:
        if method in CONTESTANTS[name].cases:
            measured[name] = _mib(extra_bytes(name, method, folder, **options))
        bar.update()
    return Measurement(MEMORY_CASES[method], tokens, "MiB", measured)


def _mib(n_bytes: int | None) -> tuple[float, ...]:
    return () if n_bytes is None else (n_bytes / 2**20,)
