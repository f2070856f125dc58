"""The benchmark of how a forward pass grows."""

import pytest
import torch

from qwen3lab import bench
from qwen3lab.bench import BenchPlan
from qwen3lab.bench.suites import growth
from qwen3lab.model.transformer import Qwen3


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_the_exponent_of_a_power_is_found(power):
    sizes = [3, 6, 12, 24, 48]
    assert growth.exponent(sizes, [5 * n**power for n in sizes]) == pytest.approx(power)


def test_small_sizes_where_fixed_costs_dominate_do_not_count():
    sizes = [1, 2, 4, 8, 16, 32]
    values = [100, 100, 100, 8**2, 16**2, 32**2]
    assert growth.exponent(sizes, values) == pytest.approx(2)


def test_each_size_is_measured_and_the_growth_is_a_note(monkeypatch):
    # In this process: fresh ones, which import torch, are measured in other tests.
    monkeypatch.setattr(growth, "in_fresh_process", lambda job, *given: job(*given))
    monkeypatch.setattr(growth, "map_large", lambda: None)
    axes = {"tokens": (4, 8), "layers": (1, 2), "experts": (4, 8), "batch": (1, 2)}
    axes["heads"] = (1, 2)
    report = bench.run_growth(BenchPlan(repeats=2), axes=axes, progress=False)
    times = [row for row in report.rows if row.unit == "ms"]
    assert [(row.case, row.tokens) for row in times] == [
        (f"time by {axis}", n) for axis, sizes in axes.items() for n in sizes
    ]
    assert all(len(row.measured["qwen3lab"]) == 2 for row in times)
    assert [note.split(",")[0] for note in report.notes[1:]] == [f"With {axis}" for axis in axes]


@pytest.mark.parametrize(
    ("axis", "wanted"),
    [
        ("tokens", (4, 16, 1, 7)),
        ("layers", (7, 16, 1, growth.TOKENS)),
        ("experts", (4, 7, 1, growth.TOKENS)),
        ("batch", (4, 16, 7, growth.TOKENS)),
    ],
)
def test_one_size_is_varied_at_a_time(axis, wanted):
    config, batch, tokens = growth._case(axis, 7)
    assert (config.n_layers, config.n_experts, batch, tokens) == wanted
    assert len(config.moe_layers) == config.n_layers


def test_as_many_patterns_are_computed_as_heads_are_looked_at():
    config, batch, n = growth._case("heads", 3)
    assert (config.n_heads, batch, n) == (3, 1, growth.TOKENS_LOOKED_AT)
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0))
    with torch.no_grad():
        patterns = growth._job("heads", model, torch.arange(6)[None])()
    assert [tuple(each.shape) for each in patterns] == [(6, 6)] * 3
    for each in patterns:
        torch.testing.assert_close(each.sum(dim=-1), torch.ones(6))
