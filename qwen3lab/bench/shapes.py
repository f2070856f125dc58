"""Every published shape, in full, on this machine: does it open, does it run, what does it take?"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm.auto import tqdm

from qwen3lab.bench.plan import BenchError, Plan, shape_of
from qwen3lab.bench.report import OURS, Report, Row
from qwen3lab.bench.side_by_side import machine, on_threads
from qwen3lab.bench.sparse import write_sparse
from qwen3lab.bench.stream import Pass, alone
from qwen3lab.catalog import PUBLISHED
from qwen3lab.model import Qwen3

NOTE = (
    "Weights are zeros in files that take no room, so reading them costs no disk time. The "
    "parameters are those of the model on the meta device; they agree with the catalog."
)


def run_shapes(
    plan: Plan, shapes: Sequence[str] = (), *, memory: str = "8GB", progress: bool = True
) -> Report:
    """Run a prompt through published shapes at full depth, streamed from files of zeros.

    Args:
        plan: its first number of tokens, layers, threads, device and dtype.
        shapes: models of the catalog; all eight if there are none.
        memory: for the weights of each.
        progress: show a bar.

    Raises:
        BenchError: a shape that the catalog does not have, or whose parameters are not as many
            as the catalog says.
        CheckpointError: the memory is too little for one of them.
    """
    names = list(shapes) or [name.rpartition("/")[2].lower() for name in PUBLISHED]
    rows = []
    with on_threads(plan.threads) as threads:
        for name in tqdm(names, unit="shape", disable=not progress):
            one = replace(plan, model=None, shape=name)
            rows += _rows(one, name, count(one), _pass(one, memory, threads))
    title = f"Published shapes, streamed within {memory}"
    agreement = "All parameters are accounted for; there are no others to compare with."
    return Report(title, machine(plan, threads), agreement, 0.0, rows, notes=(NOTE,))


def count(plan: Plan) -> int:
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


def _pass(plan: Plan, memory: str, threads: int) -> Pass:
    with TemporaryDirectory(prefix="qwen3lab-bench-") as folder:
        write_sparse(shape_of(plan), Path(folder))
        return alone(OURS, Path(folder), replace(plan, threads=threads), memory)


def _rows(plan: Plan, name: str, n_params: int, found: Pass) -> list[Row]:
    label, tokens = f"{name}, {n_params / 1e9:.2f} billion parameters", plan.tokens[0]
    peak = () if found.peak is None else (found.peak / 2**20,)
    return [
        Row(label, tokens, "s", {OURS: (found.opening + found.seconds,)}),
        Row(label, tokens, "MiB", {OURS: peak}),
    ]
