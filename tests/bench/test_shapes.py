"""All published shapes at their full width run within the least memory for streaming."""

from dataclasses import replace

import pytest
import torch

from qwen3lab.bench.plan import BenchPlan
from qwen3lab.bench.sparse_checkpoint import write_sparse
from qwen3lab.bench.suites.shapes import count
from qwen3lab.config.catalog import PUBLISHED
from qwen3lab.hooks.taps import Keep
from qwen3lab.loading import load_model
from qwen3lab.streaming.streamed_model import least_memory

SMALLEST = ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-1.7B", "Qwen/Qwen3-30B-A3B")
"""The two smallest dense shapes, which tie their embeddings; one with experts, which does not."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in SMALLEST else [pytest.mark.slow]) for n in PUBLISHED],
)
def test_a_published_shape_runs_within_the_least_memory(name, tmp_path):
    published = PUBLISHED[name]
    assert count(BenchPlan(shape=name, layers=None)) == published.n_params
    # Two layers suffice, because all layers have the same shape and are streamed the same way.
    config = replace(published, n_layers=2, moe_layers=published.moe_layers[:2])
    apparent_bytes = write_sparse(config, tmp_path)
    assert apparent_bytes == 2 * config.n_params
    assert sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()) < apparent_bytes / 1000
    least = least_memory(config, torch.bfloat16)
    model = load_model(tmp_path, dtype="bfloat16", memory=least)
    ends = ["hook_resid_post", "attn.hook_rot_k"]
    ends += ["mlp.hook_expert_indices"] if config.is_moe else []
    tap = Keep([f"blocks.1.{end}" for end in ends])
    ids = torch.tensor([[0, 1, config.d_vocab - 1]])
    with torch.no_grad():
        logits = model(ids, tap=tap)
    assert logits.shape == (1, 3, 151_936)
    resid, keys, *experts = (tap.kept[f"blocks.1.{end}"] for end in ends)
    assert resid.shape == (1, 3, config.d_model) and keys.shape == (1, 3, config.n_kv_heads, 128)
    assert [choice.shape for choice in experts] == [(1, 3, 8)] * config.is_moe
