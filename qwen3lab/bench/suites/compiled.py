"""Decoding with compiled steps (CPU) or captured CUDA graphs (GPU): speed, and time to prepare."""

import time
from functools import partial

import torch
from tqdm.auto import tqdm

from qwen3lab.acceleration.compiled_decoder import CompiledDecoder
from qwen3lab.bench.measuring import agreement_of, in_turns, machine, on_threads, prompt
from qwen3lab.bench.peers import Ours, Theirs
from qwen3lab.bench.plan import PROMPT_TO_DECODE, BenchPlan, weights_of
from qwen3lab.bench.report import OURS, PLAIN, Measurement, Report
from qwen3lab.errors import BenchError

CASES = {"decode": "decode", "decode_recording": "decode, recording attention and routing"}
NOTE = "Compiling or capturing is the time of the first reply; the other rows do not include it."


@torch.no_grad()
def run_compiled(plan: BenchPlan, *, progress: bool = True) -> Report:
    """Time decoding with compiled or captured steps, with plain steps, and with `transformers`.

    Args:
        plan: the model or shape; uses decode, repeats, threads, device and dtype.
        progress: show a bar.

    Raises:
        BenchError: the logits of the libraries differ, or compiled steps give other tokens.
        CompileError: torch needs a C++ compiler that is not installed.
    """
    bar = tqdm(total=3 * len(CASES) * (plan.repeats + 1), disable=not progress)
    with on_threads(plan.threads) as threads, weights_of(plan) as folder, bar:
        arguments = (folder, plan.device, plan.dtype)
        ours, plain = Ours(*arguments, steps="compiled"), Ours(*arguments, steps="plain")
        theirs = Theirs(*arguments)
        preparing = "compiling" if isinstance(ours.decoder, CompiledDecoder) else "capturing"
        gap = agreement_of(plan, [plain, theirs])
        ids, n = prompt(plain, PROMPT_TO_DECODE), plan.decode
        rows, notes = [], [NOTE]
        for method, label in CASES.items():
            sides = {OURS: ours, PLAIN: plain, Theirs.name: theirs}
            jobs = {name: partial(getattr(side, method), ids, n) for name, side in sides.items()}
            start = time.perf_counter()
            token_ids = jobs[OURS]()
            seconds = (time.perf_counter() - start,)
            rows.append(Measurement(f"{preparing} for {label}", n, "s", {OURS: seconds}))
            n_equal = _common_prefix(token_ids, jobs[PLAIN]())
            if n_equal < n and plan.dtype == "float32":
                raise BenchError(f"after {preparing}, decoding gives other tokens than plain steps")
            notes.append(f"{label}: the first {n_equal} of {n} tokens equal those of plain steps.")
            times = in_turns(jobs, plan.repeats, bar.update)
            rates = {name: tuple(n / s for s in runs) for name, runs in times.items()}
            rows.append(Measurement(label, n, "tokens/s", rates))
    agreement = f"The logits of both libraries agree; relative RMS difference {gap:.1e}."
    title = f"Decoding after {preparing}: {plan.title}"
    return Report(title, machine(plan, threads), agreement, gap, rows, notes=tuple(notes))


def _common_prefix(mine: list[int], theirs: list[int]) -> int:
    """The number of equal tokens before the first difference, which rounding can cause."""
    pairs = enumerate(zip(mine, theirs, strict=True))
    return next((index for index, (a, b) in pairs if a != b), len(mine))
