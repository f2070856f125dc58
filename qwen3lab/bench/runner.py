"""Runs several suites or shapes and yields each report as soon as it is measured."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from qwen3lab.bench.plan import SHAPES, BenchPlan, check_memory
from qwen3lab.bench.report import Report
from qwen3lab.bench.suites.budgets import run_budgets
from qwen3lab.bench.suites.busy import run_busy
from qwen3lab.bench.suites.circuits import run_circuits
from qwen3lab.bench.suites.classroom import run_class
from qwen3lab.bench.suites.compiled import run_compiled
from qwen3lab.bench.suites.corpus import run_corpus
from qwen3lab.bench.suites.experts import run_experts
from qwen3lab.bench.suites.gpu import run_gpu
from qwen3lab.bench.suites.growth import run_growth
from qwen3lab.bench.suites.llama import run_llama
from qwen3lab.bench.suites.overhead import run_overhead
from qwen3lab.bench.suites.patching import run_patching
from qwen3lab.bench.suites.quantised import run_quantised
from qwen3lab.bench.suites.serve import run_serve
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
    """Measure the suites; all suites of `SUITES` share one report.

    Args:
        plan: the model and settings.
        suites: names in `SUITES`, or "overhead", "compiled", "experts", "sweep", "quantised",
            "circuits", "patching", "corpus", "serve", "busy", "class", "growth", "llama",
            "gpu", "stream".
        memory: memory for weights in the suite "stream", such as "8GB"; checked before any suite
            runs.
        sparse: let "stream" read sparse files of zeros.
        progress: show a bar.

    Raises:
        BenchError: a suite cannot be measured with this plan.
        CheckpointError: the plan's model cannot be opened, or `memory` is not a size.
    """
    if "stream" in suites:
        check_stream(plan, memory=memory, sparse=sparse)
    in_one_report = [name for name in suites if name in SUITES]
    if in_one_report:
        yield run(plan, in_one_report, progress=progress)
    others = {
        "overhead": run_overhead,
        "compiled": run_compiled,
        "experts": run_experts,
        "sweep": run_budgets,
        "quantised": run_quantised,
        "circuits": run_circuits,
        "patching": run_patching,
        "corpus": run_corpus,
        "serve": run_serve,
        "busy": run_busy,
        "class": run_class,
        "growth": run_growth,
        "llama": run_llama,
        "gpu": run_gpu,
    }
    for name in others:
        if name in suites:
            yield others[name](plan, progress=progress)
    if "stream" in suites:
        yield run_stream(plan, memory=memory, sparse=sparse, progress=progress)


def run_shapes(
    plan: BenchPlan, shapes: Sequence[str] = SHAPES, *, memory: str = "8GB"
) -> Iterator[Report]:
    """Run published shapes; checks before the first run that the memory suffices for all.

    Args:
        plan: the settings; each shape replaces its `shape`.
        shapes: names of models in the catalog.
        memory: memory for the weights of each shape, such as "8GB".

    Raises:
        BenchError: the memory is too small for one of the shapes.
        CheckpointError: `memory` is not a size.
    """
    plans = [replace(plan, shape=name) for name in shapes]
    check_memory(plans, memory)
    for shape_plan in plans:
        yield run_shape(shape_plan, memory=memory)
