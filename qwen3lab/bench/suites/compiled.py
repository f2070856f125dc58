"""What it gains to have the steps of writing compiled or, on a GPU, captured; what it takes."""

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
NOTE = "Compiling or capturing is the first reply, which is not counted elsewhere."


@torch.no_grad()
def run_compiled(plan: BenchPlan, *, progress: bool = True) -> Report:
    """Time decoding with compiled or captured steps beside plain ones, and `transformers`.

    Args:
        plan: the model or shape; its decode, repeats, threads, device and dtype.
        progress: show a bar.

    Raises:
        BenchError: the sides do not compute the same, or do not write the same.
        CompileError: the compiler is missing that torch needs.
    """
    bar = tqdm(total=3 * len(CASES) * (plan.repeats + 1), disable=not progress)
    with on_threads(plan.threads) as threads, weights_of(plan) as folder, bar:
        where = (folder, plan.device, plan.dtype)
        ours, plain = Ours(*where, steps="compiled"), Ours(*where, steps="plain")
        theirs = Theirs(*where)
        done = "compiling" if isinstance(ours.decoder, CompiledDecoder) else "capturing"
        gap = agreement_of(plan, [plain, theirs])
        ids, n = prompt(plain, PROMPT_TO_DECODE), plan.decode
        rows, notes = [], [NOTE]
        for method, label in CASES.items():
            sides = {OURS: ours, PLAIN: plain, Theirs.name: theirs}
            jobs = {name: partial(getattr(side, method), ids, n) for name, side in sides.items()}
            began = time.perf_counter()
            written = jobs[OURS]()
            rows.append(
                Measurement(f"{done} for {label}", n, "s", {OURS: (time.perf_counter() - began,)})
            )
            shared = _shared(written, jobs[PLAIN]())
            if shared < n and plan.dtype == "float32":
                raise BenchError(f"plain steps, and those after {done}, write different tokens")
            notes.append(f"{label}: the first {shared} of {n} tokens are those of plain steps.")
            times = in_turns(jobs, plan.repeats, bar.update)
            rates = {name: tuple(n / s for s in found) for name, found in times.items()}
            rows.append(Measurement(label, n, "tokens/s", rates))
    agreement = f"Both libraries give the same logits, but for {gap:.1e} of their size."
    title = f"Steps of writing, after {done}: {plan.title}"
    return Report(title, machine(plan, threads), agreement, gap, rows, notes=tuple(notes))


def _shared(mine: list[int], theirs: list[int]) -> int:
    """How many tokens are the same before the first that differs: in few bits, rounding may."""
    pairs = enumerate(zip(mine, theirs, strict=True))
    return next((place for place, (a, b) in pairs if a != b), len(mine))
