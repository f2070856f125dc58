"""Every published shape, in full, on this machine: does it open, does it run, what does it take?"""

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
    "Weights are zeros in files that take no room, so reading them costs no disk time. The "
    "parameters are those of the model on the meta device; they agree with the catalog."
)


def run_shape(plan: BenchPlan, *, memory: str = "8GB") -> Report:
    """Run a prompt through a published shape, streamed from files of zeros.

    Args:
        plan: its shape, layers, first number of tokens, threads, device and dtype.
        memory: for the weights.

    Raises:
        BenchError: the plan names a model; the catalog does not have the shape, or says another
            number of parameters; the memory is too little.
        CheckpointError: the memory is no size.
    """
    if plan.model is not None:
        raise BenchError(f"published shapes are run without weights: leave out {plan.model}")
    check_memory([plan], memory)
    n_params = count(plan)
    with on_threads(plan.threads) as threads:
        found = _pass(plan, memory, threads)
    title = (
        f"{plan.shape}, {_layers(plan)}, {n_params / 1e9:.2f} billion parameters, streamed within "
        f"{memory}"
    )
    agreement = "All parameters are accounted for; there are no others to compare with."
    return Report(title, machine(plan, threads), agreement, 0.0, _rows(plan, found), notes=(NOTE,))


def count(plan: BenchPlan) -> int:
    """Parameters of a shape, counted tensor by tensor.

    Raises:
        BenchError: the catalog's arithmetic gives another number.
    """
    config = shape_of(plan)
    counted = sum(p.numel() for p in Qwen3(config, device="meta").parameters())
    if counted != config.n_params:
        raise BenchError(
            f"{plan.shape} has {counted:,} parameters, and the catalog says {config.n_params:,}"
        )
    return counted


def _pass(plan: BenchPlan, memory: str, threads: int) -> Pass:
    with TemporaryDirectory(prefix="qwen3lab-bench-") as folder:
        write_sparse(shape_of(plan), Path(folder))
        return alone(OURS, Path(folder), replace(plan, threads=threads), memory)


def _layers(plan: BenchPlan) -> str:
    """How many layers run, in words."""
    ran, whole = (shape_of(one).n_layers for one in (plan, replace(plan, layers=None)))
    return f"all {whole} layers" if ran == whole else f"{ran} of its {whole} layers"


def _rows(plan: BenchPlan, found: Pass) -> list[Measurement]:
    tokens = plan.tokens[0]
    peak = () if found.peak is None else (found.peak / 2**20,)
    return [
        Measurement(
            "opening and first pass", tokens, "s", {OURS: (found.opening + found.seconds,)}
        ),
        Measurement("memory", tokens, "MiB", {OURS: peak}),
    ]
