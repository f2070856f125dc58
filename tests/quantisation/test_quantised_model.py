"""Weights of few bits: rounded as they should be, multiplied as they are, and no more."""

import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from qwen3lab.checkpoints.writer import save_checkpoint
from qwen3lab.errors import CheckpointError, ConfigError
from qwen3lab.generation.sampling import Sampling
from qwen3lab.hooks.points import hook_names
from qwen3lab.hooks.taps import Keep
from qwen3lab.lab import load
from qwen3lab.loading import from_transformers, load_model
from qwen3lab.model.transformer import Qwen3
from qwen3lab.quantisation.packed_matrices import GROUP_SIZE, Int4, Int4ForCpu, Int8, PackedMatrices
from qwen3lab.quantisation.quantised_model import quantisation_of, quantise
from tests.reference import gap, hf_random, small_config, tokens

pytest.importorskip("torchao")


def matrix(rows=48, columns=64, dtype=torch.float32, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)


def packed(kind, *matrices) -> PackedMatrices:
    first = matrices[0]
    result = kind((len(matrices), *first.shape), first.device, first.dtype)
    for index, values in enumerate(matrices):
        result.store(index, values)
    return result


def test_int8_represents_multiples_of_the_scale_exactly():
    q = torch.randint(-127, 128, (16, 64), generator=torch.Generator().manual_seed(0))
    q[:, 0] = 127  # The largest weight of a row determines its scale.
    scales = 2.0 ** -torch.arange(16)[:, None]
    assert torch.equal(packed(Int8, q * scales).dequantise(), q * scales)


def test_int4_represents_sixteen_levels_exactly():
    q = torch.randint(0, 16, (16, 64), generator=torch.Generator().manual_seed(0))
    # The minimum and maximum of each group determine its scale and zero point.
    q[:, ::GROUP_SIZE], q[:, 1::GROUP_SIZE] = 0, 15
    levels = (q - 5) * 0.25
    assert torch.equal(packed(Int4, levels).dequantise(), levels)


@pytest.mark.parametrize(
    ("kind", "group", "levels"), [(Int8, 64, "symmetric"), (Int4, GROUP_SIZE, "from least to most")]
)
def test_the_rounding_error_is_the_scale_over_the_root_of_twelve(kind, group, levels):
    whole = matrix(rows=2048)
    groups = whole.unflatten(-1, (-1, group))
    if levels == "symmetric":
        scale = groups.abs().amax(dim=-1, keepdim=True) / 127
    else:
        scale = (groups.amax(dim=-1, keepdim=True) - groups.amin(dim=-1, keepdim=True)) / 15
    off = (packed(kind, whole).dequantise() - whole).unflatten(-1, (-1, group)) / scale
    assert float(off.abs().max()) <= 1.01
    # The variance of a uniform distribution over one step is 1/12.
    assert float(off.square().mean()) == pytest.approx(1 / 12, rel=0.05)


def test_int8_is_as_exact_as_torchaos_own_int8():
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    layer: Any = torch.nn.Linear(64, 2048, bias=False)
    whole = matrix(rows=2048)
    layer.weight.data = whole.clone()
    quantize_(layer, Int8WeightOnlyConfig())
    theirs, ours = layer.weight.dequantize(), packed(Int8, whole).dequantise()
    assert float((ours - whole).norm() / (theirs - whole).norm()) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("kind", [Int8, Int4, Int4ForCpu])
@pytest.mark.parametrize("n", [1, 16, 17, 40])
def test_a_product_matches_that_with_the_dequantised_matrix(kind, n):
    made = packed(kind, *(matrix(dtype=torch.bfloat16, seed=seed) for seed in range(3)))
    x = matrix(rows=n, dtype=torch.bfloat16, seed=9)
    for index in range(3):
        expected = F.linear(x.double(), made.dequantise(index).double())
        assert gap(made.matmul(x, index), expected) < 1e-2


@pytest.mark.parametrize("columns", [20, 33, 36, 60, 64, 96, 100])
@pytest.mark.parametrize("rows", [3, 48])
def test_a_product_of_any_width_matches_that_with_the_dequantised_matrix(rows, columns):
    """The int8 kernel reads beyond rows whose length is not a multiple of its step."""
    made = packed(Int8, matrix(rows, columns, dtype=torch.bfloat16))
    for n in (1, 3, 16):
        x = matrix(n, columns, dtype=torch.bfloat16, seed=9)
        assert gap(made.matmul(x), F.linear(x.double(), made.dequantise().double())) < 1e-2


@pytest.mark.parametrize("name", ["tiny-dense", "tiny-moe"])
def test_the_int8_kernel_is_used_for_the_matrices_of_embedded_models(name):
    model = load(name, quantise="int8", device="cpu").model
    parts = [part for part in model.modules() if isinstance(part, Int8)]
    assert parts and all(part.has_kernel(torch.ones(1, part.shape[2]).bfloat16()) for part in parts)


@pytest.mark.parametrize(("kind", "off"), [(Int8, 0.01), (Int4, 0.11)])
def test_small_weights_keep_their_relative_precision_in_float16(kind, off):
    whole = 1e-4 * matrix(rows=512)
    lost = packed(kind, whole.half()).dequantise().float() - whole.half().float()
    assert float(lost.norm() / whole.norm()) < off


def test_the_cpu_kernels_layout_does_not_change_the_weights():
    whole = matrix(dtype=torch.bfloat16)
    assert torch.equal(packed(Int4, whole).dequantise(), packed(Int4ForCpu, whole).dequantise())


def test_rows_of_zeros_stay_zeros():
    zeros = torch.zeros(16, 64)
    for kind in (Int8, Int4):
        assert torch.equal(packed(kind, zeros).dequantise(), zeros)


@pytest.mark.parametrize("kind", [Int8, Int4, Int4ForCpu])
def test_the_buffers_have_the_documented_size(kind):
    made = packed(kind, matrix(dtype=torch.bfloat16))
    kept = sum(buffer.nbytes for buffer in made.buffers())
    n = 48 * 64
    # int8: a scale of two bytes per row. int4: scale and zero point per group.
    assert kept == (n + 2 * 48 if kind is Int8 else n // 2 + 4 * n // GROUP_SIZE)


def small(kind="moe"):
    changes = {} if kind == "moe" else {"n_experts": 0, "n_experts_per_token": 0, "d_expert": 0}
    layers = (1, 2) if kind == "moe" else ()
    config = (
        small_config(d_model=64, d_mlp=96, d_expert=32, moe_layers=layers)
        if layers
        else (small_config(d_model=64, d_mlp=96, moe_layers=(), **changes))
    )
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0), std=0.2)
    return model


def made_whole(model, quantised):
    """The model with the weights that the quantised one says it multiplies by."""
    whole = small("moe" if model.config.is_moe else "dense")
    for name, part in quantised.named_modules():
        if isinstance(part, PackedMatrices):
            target = whole.get_parameter(name.replace(".packed", ".weight"))
            stack = torch.stack([part.dequantise(n) for n in range(part.shape[0])])
            target.data = stack.view_as(target)
    return whole


@pytest.mark.parametrize("bits", ["int8", "int4"])
@pytest.mark.parametrize("kind", ["moe", "dense"])
def test_activations_match_a_model_with_dequantised_weights(kind, bits):
    model = small(kind)
    quantise(model, bits)
    names = hook_names(model.config)
    mine, theirs = Keep(names), Keep(names)
    with torch.no_grad():
        model(tokens(vocab=50), tap=mine)
        made_whole(model, model)(tokens(vocab=50), tap=theirs)
    assert mine.kept.keys() == theirs.kept.keys() and mine.kept
    for name, value in theirs.kept.items():
        found, expected = (kept.float().nan_to_num(neginf=0.0) for kept in (mine.kept[name], value))
        assert gap(found, expected) < 1e-5, name


def test_only_the_matrices_inside_blocks_are_quantised():
    before, after = small(), small()
    quantise(after, "int8")
    left = dict(after.named_parameters())
    for name, value in before.named_parameters():
        assert (name in left) == (".mlp.router" in name or value.ndim < 2 or "embed" in name)
        if name in left:
            assert torch.equal(left[name], value)


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_the_reported_error_is_that_of_the_weights(bits):
    before, after = small(), small()
    quantise(after, bits)
    lost = total = 0.0
    for name, rounded in made_whole(before, after).named_parameters():
        if name not in dict(after.named_parameters()):
            rounded, whole = rounded.detach(), before.get_parameter(name).detach()
            lost += float((rounded - whole).square().sum())
            total += float(whole.square().sum())
    found = quantisation_of(after)
    assert found is not None and found.kind == bits
    assert found.error == pytest.approx((lost / total) ** 0.5, rel=1e-4)
    assert quantisation_of(before) is None


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_quantising_from_a_folder_and_in_memory_gives_the_same_model(tmp_path, bits):
    save_checkpoint(small(), tmp_path)
    model = small()
    quantise(model, bits)
    loaded = load_model(tmp_path, dtype="float32", quantise=bits)
    with torch.no_grad():
        assert torch.equal(loaded(tokens(vocab=50)), model(tokens(vocab=50)))


@pytest.mark.parametrize("bits", ["int8", "int4"])
@pytest.mark.parametrize("kind", ["moe", "dense"])
def test_the_catalog_gives_the_bytes_of_the_quantised_model(kind, bits):
    model = small(kind).to(torch.bfloat16)
    quantise(model, bits)
    held = [*model.parameters(), *model.buffers()]
    assert sum(value.nbytes for value in held) == model.config.quantised_bytes(bits)
    with pytest.raises(ConfigError, match="choose from int8, int4"):
        model.config.quantised_bytes("int3")


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_a_quantised_embedded_model_thinks_and_is_recorded(bits):
    lab = load("tiny-moe", quantise=bits, device="cpu")
    assert lab.model.dtype == torch.bfloat16
    assert f"{bits}, relative weight error" in repr(lab)
    chat = lab.chat("3+2*7-1=?", record=True, sampling=Sampling.greedy())
    assert chat.thinking and chat.answer and chat.recording is not None
    assert chat.recording.routing.experts.shape[-1] == lab.config.n_experts_per_token


def test_invalid_quantisation_requests_are_refused(tmp_path):
    save_checkpoint(small(), tmp_path)
    with pytest.raises(CheckpointError, match="choose from int8, int4"):
        load_model(tmp_path, quantise="int3")
    with pytest.raises(CheckpointError, match="cannot be combined: choose memory"):
        load_model(tmp_path, quantise="int8", memory="1GB")
    with pytest.raises(CheckpointError, match="48 columns cannot be split into groups of 32"):
        quantise(from_transformers(hf_random("dense")), "int4")


def test_without_torchao_the_error_names_the_package_to_install(tmp_path, monkeypatch):
    save_checkpoint(small(), tmp_path)
    monkeypatch.setitem(sys.modules, "torchao.quantization.quant_primitives", None)
    with pytest.raises(CheckpointError, match=r"pip install 'qwen3lab\[quantised\]'"):
        load_model(tmp_path, quantise="int8")
