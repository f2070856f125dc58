"""8-bit and 4-bit weights, compared with `transformers` and torchao: time, memory, fidelity."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from qwen3lab.bench.measuring import agreement_of, in_turns, machine, on_threads, prompt
from qwen3lab.bench.peers import Ours, Theirs
from qwen3lab.bench.plan import PROMPT_TO_DECODE, BenchPlan, weights_of
from qwen3lab.bench.report import OURS, Measurement, Report
from qwen3lab.experiments.fidelity import fidelity
from qwen3lab.lab import load
from qwen3lab.quantisation.packed_matrices import GROUP_SIZE, KINDS, make_packer
from qwen3lab.tiny import texts

UNQUANTISED = "unquantised"
TEXTS_PER_FAMILY = 4
"""Number of held-out texts of each family on which quantised logits are compared."""

NOTE = (
    "The weights of transformers are quantised by torchao's quantize_. On CPUs it stores each "
    "4-bit weight in a whole byte, and it does not quantise experts."
)
RANDOM_WEIGHTS_NOTE = (
    "The effect of quantising on the logits is not measured for random weights: choose a model."
)


def run_quantised(plan: BenchPlan, *, progress: bool = True) -> Report:
    """Measure time and size of unquantised, 8-bit and 4-bit weights.

    For a model, the notes of the report compare the quantised logits with the unquantised ones.

    Args:
        plan: the model and settings; its dtype is that of the unquantised weights and of the
            computation.
        progress: show a bar.

    Raises:
        BenchError: the unquantised logits of the libraries differ.
        CheckpointError: torchao is missing, or a matrix has too few columns for 4 bits.
    """
    kinds = (UNQUANTISED, *KINDS)
    for kind in KINDS:
        make_packer(kind)
    cases = len(kinds) * (len(plan.tokens) + 1) * 2 * (plan.repeats + 1)
    rows, gap = [], 0.0
    with (
        on_threads(plan.threads) as threads,
        weights_of(plan) as folder,
        tqdm(total=cases, disable=not progress) as bar,
        torch.no_grad(),
    ):
        for kind in kinds:
            bar.set_description(kind)
            ours, theirs = _sides(plan, folder, kind)
            if kind == UNQUANTISED:
                gap = agreement_of(plan, (ours, theirs))
            rows += _rows(plan, kind, ours, theirs, bar.update)
            del ours, theirs
        notes = (NOTE, *(_fidelity_notes(plan) if plan.model else (RANDOM_WEIGHTS_NOTE,)))
    agreement = f"The unquantised logits of both agree; relative RMS difference {gap:.1e}."
    title = f"Quantised weights: {plan.title}"
    return Report(title, machine(plan, threads), agreement, gap, rows, notes=notes)


def _sides(plan: BenchPlan, folder: Path, kind: str) -> tuple[Ours, Theirs]:
    if kind == UNQUANTISED:
        return Ours(folder, plan.device, plan.dtype), Theirs(folder, plan.device, plan.dtype)
    from torchao.quantization import (
        Int8WeightOnlyConfig,
        IntxWeightOnlyConfig,
        PerGroup,
        quantize_,
    )

    # Any: torch's type stubs do not declare this dtype.
    four_bits: Any = torch.int4  # pyright: ignore[reportAttributeAccessIssue]
    configs = {
        "int8": Int8WeightOnlyConfig(),
        "int4": IntxWeightOnlyConfig(weight_dtype=four_bits, granularity=PerGroup(GROUP_SIZE)),
    }
    theirs = Theirs(folder, plan.device, plan.dtype)
    quantize_(theirs.model, configs[kind], _is_quantised)
    return Ours(folder, plan.device, plan.dtype, quantise=kind), theirs


def _is_quantised(module: nn.Module, name: str) -> bool:
    """True for the matrices that qwen3lab quantises: not the unembedding, not the routers."""
    linear = isinstance(module, nn.Linear)
    return linear and ".layers." in name and not name.endswith("mlp.gate")


def _rows(
    plan: BenchPlan, kind: str, ours: Ours, theirs: Theirs, tick: Callable[[], object]
) -> list[Measurement]:
    sides = {OURS: ours, Theirs.name: theirs}
    rows = []
    for n in plan.tokens:
        jobs = {name: partial(side.forward, prompt(side, n)) for name, side in sides.items()}
        times = in_turns(jobs, plan.repeats, tick)
        measured = {name: tuple(1e3 * s for s in runs) for name, runs in times.items()}
        rows.append(Measurement(f"forward, {kind}", n, "ms", measured))
    start = prompt(ours, PROMPT_TO_DECODE)
    jobs = {name: partial(side.decode, start, plan.decode) for name, side in sides.items()}
    times = in_turns(jobs, plan.repeats, tick)
    measured = {name: tuple(plan.decode / s for s in runs) for name, runs in times.items()}
    rows.append(Measurement(f"decode, {kind}", plan.decode, "tokens/s", measured))
    weights = {name: (bytes_of_weights(side.model) / 2**20,) for name, side in sides.items()}
    rows.append(Measurement(f"weights, {kind}", 0, "MiB", weights))
    return rows


def bytes_of_weights(model: nn.Module) -> int:
    """The size of a model's weights in bytes, in their quantised form if quantised."""
    tensors: Sequence[torch.Tensor] = [*model.parameters(), *model.buffers()]
    return sum(inner.nbytes for tensor in tensors for inner in _inner_tensors(tensor))


def _inner_tensors(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The plain tensors inside a torchao tensor; of a plain tensor, itself."""
    names = [*getattr(tensor, "tensor_data_names", ())]
    names += getattr(tensor, "optional_tensor_data_names", ())
    inner = [getattr(tensor, name) for name in names]
    return [part for part in inner if part is not None] or [tensor]


def _fidelity_notes(plan: BenchPlan) -> list[str]:
    """For each kind of quantisation, a sentence on how it changes the logits of held-out texts."""
    assert plan.model is not None
    reference = load(plan.model, device=plan.device, dtype=plan.dtype)
    token_ids = [text.token_ids for text in texts(reference.tokenizer, n=TEXTS_PER_FAMILY)]
    notes = []
    for kind in KINDS:
        quantised = load(plan.model, device=plan.device, dtype=plan.dtype, quantise=kind)
        result = fidelity(reference, quantised, token_ids)
        notes.append(f"{kind} compared with {plan.dtype}: {result}")
    return notes
