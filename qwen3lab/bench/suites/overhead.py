"""The cost of recording, compared with runs without recording of qwen3lab and of the peers."""

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

RECORDED = "recorded tensors"
NOTE = (
    "Only the column qwen3lab records: for prompts attention (queries and keys), routing and "
    "residual stream, for replies attention and routing. Memory: peak with recording minus peak "
    "without, each measured in a separate process that returns freed large tensors to the system "
    "at once."
)


def run_overhead(plan: BenchPlan, *, progress: bool = True) -> Report:
    """Time runs with and without recording; compare the extra memory with the recorded bytes.

    Args:
        plan: the model and settings.
        progress: show a bar.

    Raises:
        BenchError: the logits of the libraries differ.
        CheckpointError: the plan's model cannot be opened.
    """
    names = installed()
    per_round = (len(plan.tokens) + 1) * (len(names) + 1)
    bar = tqdm(total=per_round * (plan.repeats + 1), disable=not progress)
    with on_threads(plan.threads) as threads, weights_of(plan) as folder, bar:
        sides = [CONTESTANTS[name](folder, plan.device, plan.dtype) for name in names]
        with torch.no_grad():
            gap = agreement_of(plan, sides)
            rows, n_bytes = _timed(plan, sides, bar.update)
        del sides
        rows += [
            _memory_row(plan, n, n_bytes[n], folder=folder, threads=threads) for n in plan.tokens
        ]
    agreement = f"The logits of all libraries agree; relative RMS difference {gap:.1e}."
    title = f"Cost of recording: {plan.title}"
    return Report(title, machine(plan, threads), agreement, gap, rows, notes=(NOTE,))


def _timed(
    plan: BenchPlan, sides: Sequence[Contestant], tick: Callable[[], object]
) -> tuple[list[Measurement], dict[int, int]]:
    """The rows of all prompt lengths and of decoding, and the recorded bytes of each length."""
    ours = sides[0]
    assert isinstance(ours, Ours), "the first side must be qwen3lab"
    rows, n_bytes = [], {}
    for n in plan.tokens:
        ids = prompt(ours, n)
        n_bytes[n] = sum(value.nbytes for value in ours.record_all(ids)[1].values())
        plain = {side.name: partial(side.forward, ids) for side in sides}
        jobs = {**plain, PLAIN: plain[OURS], OURS: partial(ours.record_all, ids)}
        times = in_turns(jobs, plan.repeats, tick)
        rows += _rows("recording a prompt", n, "ms", {s: _ms(t) for s, t in times.items()})
    start, n = prompt(ours, PROMPT_TO_DECODE), plan.decode
    decoders = [side for side in sides if isinstance(side, Ours | Theirs | Scratch)]
    plain = {side.name: partial(side.decode, start, n) for side in decoders}
    jobs = {**plain, PLAIN: plain[OURS], OURS: partial(ours.decode_recording, start, n)}
    times = in_turns(jobs, plan.repeats, tick)
    rates = {side: tuple(n / s for s in runs) for side, runs in times.items()}
    return rows + _rows("recording a reply", n, "tokens/s", rates), n_bytes


def _rows(
    case: str, tokens: int, unit: str, measured: Mapping[str, tuple[float, ...]]
) -> list[Measurement]:
    """Two rows: recording compared with qwen3lab's plain run, and with the peers' plain runs."""
    own = {side: measured[side] for side in (OURS, PLAIN)}
    others = {side: values for side, values in measured.items() if side != PLAIN}
    others = {OURS: others.pop(OURS), **others}
    return [
        Measurement(f"{case}, compared with qwen3lab's plain run", tokens, unit, own),
        Measurement(f"{case}, compared with the others' plain runs", tokens, unit, others),
    ]


def _memory_row(
    plan: BenchPlan, tokens: int, n_bytes: int, *, folder: Path, threads: int
) -> Measurement:
    """The extra peak memory of recording, and the bytes of the recorded tensors."""
    options = {"tokens": tokens, "device": plan.device, "dtype": plan.dtype, "threads": threads}
    peaks = [extra_bytes(OURS, case, folder, **options) for case in ("record_all", "forward")]
    recording, plain = peaks
    extra = () if recording is None or plain is None else (max(recording - plain, 0) / 2**20,)
    measured = {OURS: extra, RECORDED: (n_bytes / 2**20,)}
    return Measurement("extra memory of recording a prompt", tokens, "MiB", measured)


def _ms(seconds: Sequence[float]) -> tuple[float, ...]:
    return tuple(1e3 * s for s in seconds)
