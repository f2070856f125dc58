"""Runs published shapes at their full size: parameter count, time and memory of a forward pass."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from qwen3lab.bench.measuring import machine, on_threads
from qwen3lab.bench.plan import BenchPlan, check_memory, shape_of
from qwen3lab.bench.report import OURS, Measurement, Report
from qwen3lab.bench.sparse_checkpoint import write_sparse
from qwen3lab.bench.suites.stream import Pass, alone
from qwen3lab.errors import BenchError
from qwen3lab.model.transformer import Qwen3

NOTE = (
    "The weights are zeros in sparse files, so the time does not include disk reads. The "
    "parameters are counted on the meta device."
)


def run_shape(plan: BenchPlan, *, memory: str = "8GB") -> Report:
    """Run one forward pass of a published shape, streamed from sparse files of zeros.

    Args:
        plan: uses shape, layers, the first number of tokens, threads, device and dtype.
        memory: memory for the weights, such as "8GB".

    Raises:
        BenchError: the plan has a model; the catalog has no such shape, or another number of
            parameters for it; or the memory is too small.
        CheckpointError: `memory` is not a size.
    """
    if plan.model is not None:
        raise BenchError(f"published shapes are run without weights: leave out {plan.model}")
    check_memory([plan], memory)
    n_params = count(plan)
    with on_threads(plan.threads) as threads:
        run = _run_streamed(plan, memory, threads)
    title = (
        f"{plan.shape}, {_layers_text(plan)}, {n_params / 1e9:.2f} billion parameters, streamed "
        f"within {memory}"
    )
    agreement = "The number of parameters equals that of the catalog; logits are not compared."
    return Report(title, machine(plan, threads), agreement, 0.0, _rows(plan, run), notes=(NOTE,))


def count(plan: BenchPlan) -> int:
    """The number of parameters of a shape, summed over the model's tensors.

    Raises:
        BenchError: the catalog computes another number.
    """
    config = shape_of(plan)
    counted = sum(p.numel() for p in Qwen3(config, device="meta").parameters())
    if counted != config.n_params:
        raise BenchError(
            f"{plan.shape} has {counted:,} parameters, but the catalog computes {config.n_params:,}"
        )
    return counted


def _run_streamed(plan: BenchPlan, memory: str, threads: int) -> Pass:
    with TemporaryDirectory(prefix="qwen3lab-bench-") as folder:
        write_sparse(shape_of(plan), Path(folder))
        return alone(OURS, Path(folder), replace(plan, threads=threads), memory)


def _layers_text(plan: BenchPlan) -> str:
    """The number of layers that run, for the title."""
    n, total = (shape_of(p).n_layers for p in (plan, replace(plan, layers=None)))
    return f"all {total} layers" if n == total else f"{n} of its {total} layers"


def _rows(plan: BenchPlan, run: Pass) -> list[Measurement]:
    tokens = plan.tokens[0]
    peak = () if run.peak is None else (run.peak / 2**20,)
    seconds = {OURS: (run.opening + run.seconds,)}
    return [
        Measurement("loading and first forward pass", tokens, "s", seconds),
        Measurement("memory", tokens, "MiB", {OURS: peak}),
    ]
