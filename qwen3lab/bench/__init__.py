"""Speed and memory side by side with the peers that are installed, on the same weights."""

from qwen3lab.bench.budgets import run_budgets
from qwen3lab.bench.compiled import run_compiled
from qwen3lab.bench.experts import run_experts
from qwen3lab.bench.overhead import run_overhead
from qwen3lab.bench.plan import SHAPES, BenchError, Plan
from qwen3lab.bench.quantised import run_quantised
from qwen3lab.bench.report import Report, Row
from qwen3lab.bench.shapes import run_shape
from qwen3lab.bench.side_by_side import SUITES, run
from qwen3lab.bench.stream import run_stream
from qwen3lab.bench.suites import run_shapes, run_suites

__all__ = [
    "SHAPES",
    "SUITES",
    "BenchError",
    "Plan",
    "Report",
    "Row",
    "run",
    "run_budgets",
    "run_compiled",
    "run_experts",
    "run_overhead",
    "run_quantised",
    "run_shape",
    "run_shapes",
    "run_stream",
    "run_suites",
]
