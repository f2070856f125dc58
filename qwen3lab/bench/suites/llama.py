"""Decoding and prompts beside llama.cpp, with the same weights in bfloat16 and in 8 bits."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tqdm.auto import tqdm

from qwen3lab.bench.llama_cpp_peer import LlamaCpp, require_llama_cpp
from qwen3lab.bench.measuring import in_turns, machine, on_threads, prompt
from qwen3lab.bench.peers import Ours
from qwen3lab.bench.plan import PROMPT_TO_DECODE, BenchPlan, weights_of
from qwen3lab.bench.report import OURS, Measurement, Report
from qwen3lab.errors import BenchError

THEIRS = "llama.cpp"
KINDS = {"F32": None, "BF16": None, "Q8_0": "int8"}
"""Types of llama.cpp, and how our weights are quantised beside them."""
MAX_GAP = {"F32": 1e-3, "BF16": 3e-2, "Q8_0": 1e-1}
"""Largest accepted relative RMS difference of the logits. llama.cpp rounds activations to 8 bits
before it multiplies them by Q8_0."""
NOTE = (
    "The same weights in a GGUF file, read by llama.cpp through llama-cpp-python, with as many "
    "threads. Q8_0 stands beside int8: llama.cpp also stores the embedding in 8 bits, qwen3lab "
    "does not. llama.cpp returns the logits of a prompt's last token only, so both do. Decoding "
    "with a recording is of attention, and has no counterpart in llama.cpp."
)


@torch.no_grad()
def run_llama(plan: BenchPlan, *, progress: bool = True) -> Report:
    """Time decoding and prompts beside llama.cpp.

    Args:
        plan: a dense model or shape; uses tokens, decode, repeats, threads and dtype. In bfloat16
            it is measured beside BF16 and Q8_0, in float32 beside F32.
        progress: show a bar.

    Raises:
        BenchError: llama-cpp-python is not installed, the model has experts, the device is not the
            CPU, or the logits differ.
    """
    require_llama_cpp()
    if plan.device != "cpu" or plan.dtype == "float16":
        raise BenchError("the suite llama compares on the CPU, in bfloat16 or float32")
    kinds = ("F32",) if plan.dtype == "float32" else ("BF16", "Q8_0")
    cases = len(kinds) * (2 * (len(plan.tokens) + 1) + 1) * (plan.repeats + 1)
    rows, gaps = [], {}
    with (
        on_threads(plan.threads) as threads,
        weights_of(plan) as folder,
        TemporaryDirectory(prefix="qwen3lab-bench-") as files,
        tqdm(total=cases, disable=not progress) as bar,
    ):
        for kind in kinds:
            ours = Ours(folder, plan.device, plan.dtype, quantise=KINDS[kind])
            capacity = max(*plan.tokens, PROMPT_TO_DECODE + plan.decode)
            file = Path(files) / f"{kind}.gguf"
            with LlamaCpp(folder, file, kind, threads=threads, capacity=capacity) as theirs:
                gaps[kind] = _gap(kind, ours, theirs)
                rows += _rows(plan, kind, ours, theirs, bar)
            file.unlink()
    agreement = "Relative RMS difference of the logits: "
    agreement += ", ".join(f"{kind} {gap:.1e}" for kind, gap in gaps.items()) + "."
    title = f"Beside llama.cpp: {plan.title}"
    header = machine(plan, threads)
    return Report(title, header, agreement, max(gaps.values()), rows, notes=(NOTE,))


def _gap(kind: str, ours: Ours, theirs: LlamaCpp) -> float:
    """The difference of the logits after a prompt.

    Raises:
        BenchError: it is too large.
    """
    ids = prompt(ours, PROMPT_TO_DECODE)
    mine, peer = ours.model(ids, last_only=True)[0, -1].float(), theirs.forward(ids[0].tolist())
    gap = float((mine - peer).norm() / peer.norm())
    if not gap <= MAX_GAP[kind]:
        raise BenchError(
            f"the logits differ from those of llama.cpp by {gap:.1e} (relative RMS), above "
            f"{MAX_GAP[kind]:.0e} for {kind}: their times are not comparable"
        )
    return gap


def _rows(plan: BenchPlan, kind: str, ours: Ours, theirs: LlamaCpp, bar: tqdm) -> list[Measurement]:
    """Rates of prompts and of decoding."""
    bar.set_description(kind)
    rows = []
    for n in plan.tokens:
        ids = prompt(ours, n)
        jobs = {
            OURS: partial(ours.model, ids, last_only=True),
            THEIRS: partial(theirs.forward, ids[0].tolist()),
        }
        times = in_turns(jobs, plan.repeats, bar.update)
        rates = {name: tuple(n / s for s in runs) for name, runs in times.items()}
        rows.append(Measurement(f"prompt, {kind}", n, "tokens/s", rates))
    ids, n = prompt(ours, PROMPT_TO_DECODE), plan.decode
    recorded = f"{OURS}, recorded"
    jobs = {
        OURS: partial(ours.decode, ids, n),
        THEIRS: partial(theirs.decode, ids[0].tolist(), n),
        recorded: partial(ours.decode_recording, ids, n),
    }
    times = in_turns(jobs, plan.repeats, bar.update)
    rates = {name: tuple(n / s for s in runs) for name, runs in times.items()}
    rows.append(
        Measurement(f"decode, {kind}", n, "tokens/s", {OURS: rates[OURS], THEIRS: rates[THEIRS]})
    )
    of_recorded = {OURS: rates[recorded], THEIRS: rates[THEIRS]}
    rows.append(Measurement(f"decode recorded, {kind}", n, "tokens/s", of_recorded))
    return rows
