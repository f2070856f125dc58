"""Weights of few bits beside the same in `transformers`: time, memory, and what they change."""

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

WHOLE = "whole"
N_TEXTS = 4
"""Held-out texts of each family that a model is read with, to see what quantising changes."""

NOTE = (
    "transformers' weights are quantised by torchao's quantize_, which has no 4 bits for CPUs that "
    "take half of a byte (they take a whole one), and leaves experts as they are."
)
RANDOM = "What quantising changes in random weights says nothing: name a model for that."


def run_quantised(plan: BenchPlan, *, progress: bool = True) -> Report:
    """Time whole, 8-bit and 4-bit weights, and weigh them.

    Args:
        plan: what to measure; its dtype is that of the whole weights and of the computation.
        progress: show a bar.

    Raises:
        BenchError: the sides' whole weights do not compute the same.
        CheckpointError: torchao is missing, or a matrix has too few columns for 4 bits.
    """
    kinds = (WHOLE, *KINDS)
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
            if kind == WHOLE:
                gap = agreement_of(plan, (ours, theirs))
            rows += _rows(plan, kind, ours, theirs, bar.update)
            del ours, theirs
        notes = (NOTE, *(_changes(plan) if plan.model else (RANDOM,)))
    agreement = f"Whole, both give the same logits, but for {gap:.1e} of their size."
    title = f"Quantised weights: {plan.title}"
    return Report(title, machine(plan, threads), agreement, gap, rows, notes=notes)


def _sides(plan: BenchPlan, folder: Path, kind: str) -> tuple[Ours, Theirs]:
    if kind == WHOLE:
        return Ours(folder, plan.device, plan.dtype), Theirs(folder, plan.device, plan.dtype)
    from torchao.quantization import (
        Int8WeightOnlyConfig,
        IntxWeightOnlyConfig,
        PerGroup,
        quantize_,
    )

    # Any: torch has this dtype, and does not declare it.
    four_bits: Any = torch.int4  # pyright: ignore[reportAttributeAccessIssue]
    configs = {
        "int8": Int8WeightOnlyConfig(),
        "int4": IntxWeightOnlyConfig(weight_dtype=four_bits, granularity=PerGroup(GROUP_SIZE)),
    }
    theirs = Theirs(folder, plan.device, plan.dtype)
    quantize_(theirs.model, configs[kind], _in_a_block)
    return Ours(folder, plan.device, plan.dtype, quantise=kind), theirs


def _in_a_block(module: nn.Module, name: str) -> bool:
    """What we quantise, too: not the unembedding, not the routers."""
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
        measured = {name: tuple(1e3 * s for s in found) for name, found in times.items()}
        rows.append(Measurement(f"forward, {kind}", n, "ms", measured))
    start = prompt(ours, PROMPT_TO_DECODE)
    jobs = {name: partial(side.decode, start, plan.decode) for name, side in sides.items()}
    times = in_turns(jobs, plan.repeats, tick)
    measured = {name: tuple(plan.decode / s for s in found) for name, found in times.items()}
    rows.append(Measurement(f"decode, {kind}", plan.decode, "tokens/s", measured))
    weights = {name: (bytes_of_weights(side.model) / 2**20,) for name, side in sides.items()}
    rows.append(Measurement(f"weights, {kind}", 0, "MiB", weights))
    return rows


def bytes_of_weights(model: nn.Module) -> int:
    """Bytes of a model's weights; of a quantised one, of what stands in for them."""
    held: Sequence[torch.Tensor] = [*model.parameters(), *model.buffers()]
    return sum(part.nbytes for whole in held for part in _parts(whole))


def _parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """What a tensor of torchao's is made of; any other is made of itself."""
    names = [*getattr(tensor, "tensor_data_names", ())]
    names += getattr(tensor, "optional_tensor_data_names", ())
    found = [getattr(tensor, name) for name in names]
    return [part for part in found if part is not None] or [tensor]


def _changes(plan: BenchPlan) -> list[str]:
    """What each kind changes in what the model says about held-out texts."""
    assert plan.model is not None
    reference = load(plan.model, device=plan.device, dtype=plan.dtype)
    read = [text.token_ids for text in texts(reference.tokenizer, n=N_TEXTS)]
    said = []
    for kind in KINDS:
        other = load(plan.model, device=plan.device, dtype=plan.dtype, quantise=kind)
        said.append(f"{kind} beside {plan.dtype}: {fidelity(reference, other, read)}")
    return said
