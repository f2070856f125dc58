"""Decoding beside busy neighbours, as a share of the rate on a quiet machine."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from tqdm.auto import tqdm

from qwen3lab.bench.measuring import agreement_of, in_turns, machine, on_threads, prompt
from qwen3lab.bench.neighbours import busy_neighbours, cores
from qwen3lab.bench.peers import Ours, Theirs
from qwen3lab.bench.plan import PROMPT_TO_DECODE, BenchPlan, weights_of
from qwen3lab.bench.report import OURS, Measurement, Report

ONE_THREAD = "transformers, one thread"
NOTE = (
    "A neighbour is a process that computes all the time. With as many neighbours as cores, two "
    "thirds of the quiet rate is the fair share of one thread on two cores; threads that wait for "
    "each other lose more. Quiet and busy runs alternate; a share compares two that follow each "
    "other."
)

Rates = dict[str, list[float]]


@torch.no_grad()
def run_busy(plan: BenchPlan, *, neighbours: int | None = None, progress: bool = True) -> Report:
    """Time decoding on a quiet machine and beside busy processes, in one run.

    `transformers` runs as it comes, and on one thread.

    Args:
        plan: the model or shape; uses decode, repeats, threads, device and dtype.
        neighbours: number of busy processes; None for one per core.
        progress: show a bar.

    Raises:
        BenchError: the logits of the libraries differ, or a neighbour did not start.
    """
    n_busy = cores() if neighbours is None else neighbours
    with on_threads(plan.threads) as threads, weights_of(plan) as folder:
        ours, theirs = (side(folder, plan.device, plan.dtype) for side in (Ours, Theirs))
        gap = agreement_of(plan, [ours, theirs])
        ids, n = prompt(ours, PROMPT_TO_DECODE), plan.decode
        jobs = {
            OURS: partial(ours.decode, ids, n),
            Theirs.name: partial(theirs.decode, ids, n),
            ONE_THREAD: partial(_on_one_thread, theirs.decode, ids, n),
        }
        with tqdm(total=4 * len(jobs) * plan.repeats, disable=not progress) as bar:
            quiet, busy = _rates(jobs, n, plan.repeats, n_busy, bar.update)
    agreement = f"The logits of both libraries agree; relative RMS difference {gap:.1e}."
    title = f"Decoding beside {n_busy} busy neighbours on {cores()} cores: {plan.title}"
    rows = [*_rows(n, quiet, busy, Theirs.name, "as it comes"), *_rows(n, quiet, busy, ONE_THREAD)]
    return Report(title, machine(plan, threads), agreement, gap, rows, notes=(NOTE,))


def _rates(
    jobs: Mapping[str, Callable[[], object]],
    n_tokens: int,
    repeats: int,
    n_busy: int,
    tick: Callable[[], object],
) -> tuple[Rates, Rates]:
    """Tokens per second of each job in each round, first quiet, then beside neighbours."""
    quiet: Rates = {name: [] for name in jobs}
    busy: Rates = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, [seconds] in in_turns(jobs, 1, tick).items():
            quiet[name].append(n_tokens / seconds)
        with busy_neighbours(n_busy):
            for name, [seconds] in in_turns(jobs, 1, tick).items():
                busy[name].append(n_tokens / seconds)
    return quiet, busy


def _rows(
    n: int, quiet: Rates, busy: Rates, peer: str, how: str = "on one thread"
) -> list[Measurement]:
    """Rates and shares of qwen3lab beside one peer."""

    def row(case: str, unit: str, of: Mapping[str, list[float]]) -> Measurement:
        label = f"{case}, transformers {how}"
        return Measurement(label, n, unit, {side: tuple(of[side]) for side in (OURS, peer)})

    shares = {
        side: [100 * b / q for q, b in zip(quiet[side], busy[side], strict=True)] for side in quiet
    }
    return [
        row("decode, quiet", "tokens/s", quiet),
        row("decode, busy", "tokens/s", busy),
        row("kept of the quiet rate", "%", shares),
    ]


def _on_one_thread(decode: Callable[..., object], *arguments: object) -> object:
    with on_threads(1):
        return decode(*arguments)
