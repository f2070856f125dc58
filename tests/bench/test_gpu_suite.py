"""The benchmark of decoding beside the memory's limit, on a small model and the CPU."""

import pytest
import torch

from qwen3lab import bench
from qwen3lab.bench import BenchPlan
from qwen3lab.bench.suites import gpu
from qwen3lab.errors import BenchError
from qwen3lab.loading import from_transformers
from tests.reference import hf_random

PLAN = BenchPlan(layers=1, tokens=(8,), decode=3, repeats=2)
CASES = ("decode", "decode, share of the limit", "decode recorded", "prompt recorded")


def test_a_model_is_measured_in_the_memory_limit_and_with_a_recording(tmp_path):
    hf_random("experts").save_pretrained(tmp_path)
    plan = BenchPlan(model=str(tmp_path), tokens=(8,), decode=3, repeats=2)
    report = bench.run_gpu(plan, progress=False)
    assert [row.case for row in report.rows] == [f"{case}, {tmp_path}" for case in CASES]
    plain, share, recorded, _ = report.rows
    [limit] = plain.measured[gpu.LIMIT]
    for part, rate in zip(share.measured["qwen3lab"], plain.measured["qwen3lab"], strict=True):
        assert part == pytest.approx(100 * rate / limit)
    assert set(recorded.measured) == {"qwen3lab", "qwen3lab, plain"}
    assert any("GB/s" in note for note in report.notes)


def test_shapes_are_measured_one_after_another(monkeypatch):
    monkeypatch.setitem(gpu.COPIED_BYTES, "cpu", 2**16)
    report = bench.run_gpu(PLAN, shapes=("qwen3-0.6b",), progress=False)
    assert [row.case for row in report.rows] == [f"{case}, qwen3-0.6b" for case in CASES]


def test_an_unknown_shape_is_refused():
    with pytest.raises(BenchError, match="shape 'qwen3-x' is unknown"):
        bench.run_gpu(PLAN, shapes=("qwen3-x",), progress=False)


@pytest.mark.parametrize("name", ["dense", "dense, tied", "experts"])
def test_a_step_reads_the_weights_of_one_token_and_its_past(name):
    model = from_transformers(hf_random(name))
    config, n_past = model.config, 5
    read = {key: value.numel() for key, value in model.named_parameters()}
    if not config.tied_embeddings:
        del read["embed.weight"]
    share = config.n_experts_per_token / config.n_experts if config.is_moe else 1
    of_experts = ("mlp.gate_up", "mlp.down")
    n = sum(size * (share if key.endswith(of_experts) else 1) for key, size in read.items())
    past = model.new_cache(capacity=n_past).nbytes
    assert gpu.bytes_of_step(config, torch.float32, n_past) == pytest.approx(4 * n + past)
