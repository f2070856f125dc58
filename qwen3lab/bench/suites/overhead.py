"""What recording costs: beside our own plain pass, and beside the plain passes of the others."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from tqdm.auto import tqdm

from qwen3lab.bench.measuring import agreement_of, in_turns, machine, on_threads, prompt
from qwen3lab.bench.memory import extra_bytes
from qwen3lab.bench.peers import CONTESTANTS, Contestant, Ours, Scratch, Theirs, installed
from qwen3lab.bench.plan import PROMPT_TO_DECODE, BenchPlan, weights_of
from qwen3lab.bench.report import OURS, PLAIN, Measurement, Report

KEPT = "what is kept"
NOTE = (
    "Prompts are recorded with attention (queries and keys), routing and residual stream, replies "
    "with attention and routing; all others run without recording anything. Memory is what the "
    "peak of recording has above that of the plain pass, in processes of their own, in which large "
    "tensors are given back as soon as they are freed."
)


def run_overhead(plan: BenchPlan, *, progress: bool = True) -> Report:
    """Time recording beside plain runs, and weigh what it takes beside what it keeps.

    Args:
        plan: what to measure.
        progress: show a bar.

    Raises:
        BenchError: the sides do not compute the same, so that their times mean nothing.
        CheckpointError: the plan's model does not open.
    """
    names = installed()
    per_round = (len(plan.tokens) + 1) * (len(names) + 1)
    bar = tqdm(total=per_round * (plan.repeats + 1), disable=not progress)
    with on_threads(plan.threads) as threads, weights_of(plan) as folder, bar:
        sides = [CONTESTANTS[name](folder, plan.device, plan.dtype) for name in names]
        with torch.no_grad():
            gap = agreement_of(plan, sides)
            rows, kept = _timed(plan, sides, bar.update)
        del sides
        rows += [_weighed(plan, n, kept[n], folder=folder, threads=threads) for n in plan.tokens]
    agreement = f"All give the same logits, but for {gap:.1e} of their size."
    title = f"What recording costs: {plan.title}"
    return Report(title, machine(plan, threads), agreement, gap, rows, notes=(NOTE,))


def _timed(
    plan: BenchPlan, sides: Sequence[Contestant], tick: Callable[[], object]
) -> tuple[list[Measurement], dict[int, int]]:
    """Rows of all lengths and of decoding, and the bytes kept of each length."""
    ours = sides[0]
    assert isinstance(ours, Ours), "ours comes first"
    rows, kept = [], {}
    for n in plan.tokens:
        ids = prompt(ours, n)
        kept[n] = sum(value.nbytes for value in ours.record_all(ids)[1].values())
        plain = {side.name: partial(side.forward, ids) for side in sides}
        jobs = {**plain, PLAIN: plain[OURS], OURS: partial(ours.record_all, ids)}
        times = in_turns(jobs, plan.repeats, tick)
        rows += _rows("recording a prompt", n, "ms", {s: _ms(t) for s, t in times.items()})
    start, n = prompt(ours, PROMPT_TO_DECODE), plan.decode
    able = [side for side in sides if isinstance(side, Ours | Theirs | Scratch)]
    plain = {side.name: partial(side.decode, start, n) for side in able}
    jobs = {**plain, PLAIN: plain[OURS], OURS: partial(ours.decode_recording, start, n)}
    times = in_turns(jobs, plan.repeats, tick)
    rates = {side: tuple(n / s for s in found) for side, found in times.items()}
    return rows + _rows("recording a reply", n, "tokens/s", rates), kept


def _rows(
    case: str, tokens: int, unit: str, measured: Mapping[str, tuple[float, ...]]
) -> list[Measurement]:
    """The same measurements twice: beside our own, and beside the others."""
    own = {side: measured[side] for side in (OURS, PLAIN)}
    others = {side: found for side, found in measured.items() if side != PLAIN}
    others = {OURS: others.pop(OURS), **others}
    return [
        Measurement(f"{case}, beside our plain run", tokens, unit, own),
        Measurement(f"{case}, beside others' plain runs", tokens, unit, others),
    ]


def _weighed(plan: BenchPlan, tokens: int, kept: int, *, folder: Path, threads: int) -> Measurement:
    """What recording takes above the plain pass, and what it keeps."""
    options = {"tokens": tokens, "device": plan.device, "dtype": plan.dtype, "threads": threads}
    peaks = [extra_bytes(OURS, case, folder, **options) for case in ("record_all", "forward")]
    recording, plain = peaks
    more = () if recording is None or plain is None else (max(recording - plain, 0) / 2**20,)
    measured = {OURS: more, KEPT: (kept / 2**20,)}
    return Measurement("memory above the plain pass", tokens, "MiB", measured)


def _ms(seconds: Sequence[float]) -> tuple[float, ...]:
    return tuple(1e3 * s for s in seconds)
