"""The benchmark of circuits, on a small shape."""

from dataclasses import replace

import pytest
import torch

from qwen3lab import bench
from qwen3lab.bench.suites import circuits as suite
from qwen3lab.config.catalog import PUBLISHED
from qwen3lab.errors import BenchError

SMALL = {"d_model": 32, "n_heads": 4, "n_kv_heads": 2, "d_head": 16, "d_mlp": 48, "d_vocab": 700}


@pytest.fixture
def plan(monkeypatch):
    small = {name: replace(config, **SMALL) for name, config in PUBLISHED.items()}
    monkeypatch.setattr("qwen3lab.bench.plan.PUBLISHED", small)
    return bench.BenchPlan(layers=2, repeats=2)


def test_time_and_memory_of_circuits_stand_beside_a_plain_search(plan):
    (report,) = bench.run_suites(plan, ["circuits"], progress=False)
    assert [(row.case, row.unit) for row in report.rows] == [
        (case, unit) for case in ("OV pairs", "QK pairs", "copying scores") for unit in ("s", "MiB")
    ]
    assert report.rows[0].best_peer == suite.PLAIN_SEARCH
    assert report.rows[0].tokens == 700
    assert all(len(values) == 2 for values in report.rows[0].measured.values())
    assert "qwen3-0.6b, 2 layers" in report.title


@torch.no_grad()
def test_sides_that_find_other_pairs_are_refused(plan, monkeypatch):
    plain = suite.plain_ov_pairs
    monkeypatch.setattr(
        suite, "plain_ov_pairs", lambda lab, n: tuple(value * 1.01 for value in plain(lab, n))
    )
    with pytest.raises(BenchError, match="largest entries of the two sides differ by 9"):
        bench.run_circuits(plan, progress=False)
