"""Reports one after another: each can be shown before the next is measured."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from qwen3lab.bench.plan import SHAPES, BenchPlan, check_memory
from qwen3lab.bench.report import Report
from qwen3lab.bench.suites.budgets import run_budgets
from qwen3lab.bench.suites.compiled import run_compiled
from qwen3lab.bench.suites.experts import run_experts
from qwen3lab.bench.suites.overhead import run_overhead
from qwen3lab.bench.suites.quantised import run_quantised
from qwen3lab.bench.suites.shapes import run_shape
from qwen3lab.bench.suites.side_by_side import SUITES, run
from qwen3lab.bench.suites.stream import check_stream, run_stream


def run_suites(
    plan: BenchPlan,
    suites: Sequence[str] = tuple(SUITES),
    *,
    memory: str = "8GB",
    sparse: bool = False,
    progress: bool = True,
) -> Iterator[Report]:
    """Measure some suites; those that time the same models share a report.

    Args:
        plan: what to measure.
        suites: of `SUITES`, or "overhead", "compiled", "experts", "sweep", "quantised", "stream".
        memory: for weights, in the suite "stream"; checked before anything is measured.
        sparse: have "stream" read files of zeros.
        progress: show a bar.
    """
    if "stream" in suites:
        check_stream(plan, memory=memory, sparse=sparse)
    together = [name for name in suites if name in SUITES]
    if together:
        yield run(plan, together, progress=progress)
    others = {
        "overhead": run_overhead,
        "compiled": run_compiled,
        "experts": run_experts,
        "sweep": run_budgets,
        "quantised": run_quantised,
    }
    for name in others:
        if name in suites:
            yield others[name](plan, progress=progress)
    if "stream" in suites:
        yield run_stream(plan, memory=memory, sparse=sparse, progress=progress)


def run_shapes(
    plan: BenchPlan, shapes: Sequence[str] = SHAPES, *, memory: str = "8GB"
) -> Iterator[Report]:
    """Run published shapes, all of which the memory has to be enough for before the first runs.

    Args:
        plan: what to measure of each.
        shapes: models of the catalog.
        memory: for the weights of each.
    """
    plans = [replace(plan, shape=name) for name in shapes]
    check_memory(plans, memory)
    for one in plans:
        yield run_shape(one, memory=memory)
