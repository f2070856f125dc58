"""Benchmarks of speed and memory against the peer libraries that are installed.

All libraries load the same weights. A `BenchPlan` says what to measure; `run` and the other `run_*`
functions each measure one suite and return a `Report` of `Measurement`s; `run_suites` and
`run_shapes` yield several reports. `SUITES` names the suites that `run` measures, `SHAPES` the
published model shapes. Only the names in `__all__` are public.
"""

from typing import Any

from qwen3lab._moved import renamed
from qwen3lab.bench.plan import SHAPES, BenchPlan
from qwen3lab.bench.report import Measurement, Report
from qwen3lab.bench.runner import run_shapes, run_suites
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
from qwen3lab.bench.suites.stream import run_stream
from qwen3lab.errors import BenchError

__all__ = [
    "SHAPES",
    "SUITES",
    "BenchError",
    "BenchPlan",
    "Measurement",
    "Report",
    "run",
    "run_budgets",
    "run_busy",
    "run_circuits",
    "run_class",
    "run_compiled",
    "run_corpus",
    "run_experts",
    "run_gpu",
    "run_growth",
    "run_llama",
    "run_overhead",
    "run_patching",
    "run_quantised",
    "run_serve",
    "run_shape",
    "run_shapes",
    "run_stream",
    "run_suites",
]


def __getattr__(name: str) -> Any:
    """The objects under their names from before version 0.2, with a deprecation warning."""
    return renamed("bench", name)
