"""What fits is computed from the parameter counts, and exact weights come first."""

import math

import pytest
import torch

from qwen3lab.config.catalog import PUBLISHED, model_table
from qwen3lab.config.placement import (
    SIZES,
    choose,
    fits,
    is_quantisable,
    least_streamed_values,
    resident_bytes,
    room_bytes,
)
from qwen3lab.model.transformer import Qwen3
from tests.reference import small_config

LARGE = PUBLISHED["Qwen/Qwen3-30B-A3B"]
GB = 10**9


def counted_by_kind(config):
    """Values of the embeddings and of each kind of unit, counted on the meta device."""
    model, units = Qwen3(config, device="meta"), {}
    outer = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("blocks."))
    for block in model.blocks:
        shapes = {n: p for n, p in block.named_parameters() if n not in ("mlp.gate_up", "mlp.down")}
        units[tuple(shapes)] = sum(p.numel() for p in shapes.values())
    return outer, sum(units.values())


@pytest.mark.parametrize("name", ["Qwen/Qwen3-0.6B", "Qwen/Qwen3-30B-A3B", "small"])
def test_the_least_for_streaming_is_the_embeddings_and_two_units_of_each_kind(name):
    config = small_config() if name == "small" else PUBLISHED[name]
    outer, units = counted_by_kind(config)
    expert = 3 * config.d_model * config.d_expert
    assert least_streamed_values(config) == outer + 2 * (units + expert)


def test_a_model_is_whole_exactly_if_weights_and_room_fit():
    limit = 2 * LARGE.n_params + room_bytes(LARGE, "bfloat16")
    assert choose(LARGE, limit).way == "whole"
    assert choose(LARGE, limit - 1).way == "streamed"
    assert choose(LARGE, limit, dtype="float32").way == "streamed"


def test_weights_are_quantised_only_if_that_is_allowed_and_int8_comes_first():
    assert choose(LARGE, 48 * GB).way == "streamed"
    assert choose(LARGE, 48 * GB, kinds=("int8", "int4")).way == "int8"
    assert choose(LARGE, 24 * GB, kinds=("int8", "int4")).way == "int4"
    assert choose(LARGE, 24 * GB, kinds=("int8",)).way == "streamed"
    assert choose(LARGE, 80 * GB, kinds=("int8", "int4")).way == "whole"
    sentence = choose(LARGE, 24 * GB).sentence
    assert 'quantise="auto" would take int4' in sentence and "61.1 GB in bfloat16" in sentence


def test_a_model_comes_from_the_host_only_if_that_holds_all_weights():
    assert choose(LARGE, 12 * GB, host_bytes=2 * LARGE.n_params).way == "streamed"
    found = choose(LARGE, 12 * GB, host_bytes=2 * LARGE.n_params + 1)
    assert found.way == "host" and found.sentence.startswith("experts in host memory")
    dense = choose(PUBLISHED["Qwen/Qwen3-32B"], 24 * GB, host_bytes=math.inf)
    assert dense.sentence.startswith("weights in host memory")


def test_everything_but_the_experts_is_what_a_model_without_experts_has():
    one = 3 * 2048 * 768
    outside = LARGE.n_params - 48 * 128 * one
    assert resident_bytes(LARGE, "bfloat16") == 2 * (outside + 2 * one) + 2**25


def test_streamed_weights_leave_the_room_if_the_limit_has_it():
    found = choose(LARGE, 12 * GB)
    assert found.weights_limit == 12 * GB - found.room
    tight = choose(LARGE, found.least + 10)
    assert tight.weights_limit == found.least + 10
    assert choose(LARGE, found.least - 1).way == "refused"


def test_int4_needs_groups_of_32_columns():
    assert is_quantisable(LARGE, "int4")
    odd = small_config()  # Experts of 16 columns.
    assert not is_quantisable(odd, "int4") and is_quantisable(odd, "int8")
    with pytest.raises(ValueError, match="choose from int8, int4"):
        choose(LARGE, GB, kinds=("int3",))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_table_is_the_choice_at_load(name):
    config = PUBLISHED[name]
    for size, label in fits(config).items():
        found = choose(config, SIZES[size], kinds=("int8", "int4"), host_bytes=math.inf)
        held = {"whole": "bfloat16", "int8": "int8", "int4": "int4"}.get(found.way)
        assert label == (held or label)
        assert held or label in ("streamed", "experts on host")


def test_30b_a3b_is_int4_on_24_gb_and_has_its_experts_on_the_host_with_12():
    # 30.5 billion parameters: 61 GB in bfloat16, about 20 GB in int4 with scales and embeddings.
    ways = list(fits(LARGE).values())
    assert ways == [*["experts on host"] * 3, "int4", "int8", "bfloat16"]


def test_the_table_of_models_shows_what_fits():
    table = model_table()
    assert table[0].fits == fits(PUBLISHED["Qwen/Qwen3-0.6B"])
    line = next(line for line in table.fits().splitlines() if "Qwen3-14B" in line)
    assert line.split()[1:] == ["streamed", "streamed", "int4", "int8", "bfloat16", "bfloat16"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_room_holds_the_queries_keys_and_cache_of_its_tokens(dtype):
    size = {"float32": 4, "bfloat16": 2, "float16": 2}[dtype]
    kept = LARGE.n_layers * (LARGE.n_heads + LARGE.n_kv_heads) * LARGE.d_head
    cache = 2 * LARGE.n_layers * LARGE.n_kv_heads * LARGE.d_head
    assert room_bytes(LARGE, dtype) > 1024 * size * (kept + cache) + 500_000_000
    assert getattr(torch, dtype).itemsize == size
