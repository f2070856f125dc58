"""The benchmark of patching, on a small shape."""

from dataclasses import replace

import pytest
import torch

from qwen3lab import bench
from qwen3lab.bench.suites import patching as suite
from qwen3lab.config.catalog import PUBLISHED
from qwen3lab.errors import BenchError

SMALL = {"d_model": 32, "n_heads": 4, "n_kv_heads": 2, "d_head": 16, "d_mlp": 48, "d_vocab": 700}


@pytest.fixture
def plan(monkeypatch):
    small = {name: replace(config, **SMALL) for name, config in PUBLISHED.items()}
    monkeypatch.setattr("qwen3lab.bench.plan.PUBLISHED", small)
    # Without TransformerLens, which loads for seconds; its maps are compared in tests/patching.
    monkeypatch.setattr(suite, "installed", list)
    return bench.BenchPlan(layers=2, repeats=1, tokens=(5, 512))


def test_a_sweep_stands_beside_a_loop_with_the_same_map(plan):
    (report,) = bench.run_suites(plan, ["patching"], progress=False)
    assert [(row.case, row.tokens, row.unit) for row in report.rows] == [
        ("layer x position sweep", n, "ms") for n in (5, suite.MAX_TOKENS)
    ]
    assert list(report.rows[0].measured) == ["qwen3lab", suite.LOOP]
    assert report.gap < 1e-4


@torch.no_grad()
def test_sides_with_other_maps_are_refused(plan, monkeypatch):
    loop = suite._by_loop
    monkeypatch.setattr(suite, "_by_loop", lambda *given: loop(*given) * 1.01 + 1)
    with pytest.raises(BenchError, match="the maps of the sides differ by"):
        bench.run_patching(plan, progress=False)
