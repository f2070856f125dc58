"""Quantised models on disk: read by torchao and transformers, and back here to the same bits."""

import json
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from qwen3lab.checkpoints import save_checkpoint
from qwen3lab.checkpoints.packed_writer import packed_matrices
from qwen3lab.errors import CheckpointError
from qwen3lab.loading import load_model
from qwen3lab.quantisation import quantisation_of, quantise
from qwen3lab.quantisation.packed_matrices import PackedMatrices
from tests.quantisation.test_quantised_model import small
from tests.reference import tokens

ao = pytest.importorskip("torchao.quantization.quant_primitives")
KINDS = ["int8", "int4"]


def saved(folder, bits, kind="moe", dtype=torch.float32):
    model = small(kind).to(dtype)
    quantise(model, bits)
    save_checkpoint(model, folder)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bits", KINDS)
@pytest.mark.parametrize("kind", ["moe", "dense"])
def test_a_saved_model_is_loaded_to_the_same_bits(tmp_path, kind, bits, dtype):
    model = saved(tmp_path, bits, kind, dtype)
    loaded = load_model(tmp_path)
    assert loaded.dtype == dtype and loaded.config == model.config
    for values in ("named_parameters", "named_buffers"):
        mine, theirs = (dict(getattr(each, values)()) for each in (model, loaded))
        assert mine.keys() == theirs.keys() and mine
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert quantisation_of(loaded) == quantisation_of(model)
    with torch.no_grad():
        assert torch.equal(loaded(tokens(vocab=50)), model(tokens(vocab=50)))


def read_by_torchao(folder):
    support = pytest.importorskip("torchao.prototype.safetensors.safetensors_support")
    path = folder / "model.safetensors"
    with safe_open(path, "pt") as file:
        found, left = support.unflatten_tensor_state_dict(load_file(path), file.metadata())
    assert not left
    return found


def weights_of(tensor):
    """The weights of a torchao tensor: int8 by itself, int4 by torchao's formula for its values."""
    if type(tensor).__name__ == "Int8Tensor":
        return tensor.dequantize()
    assert type(tensor).__name__ == "Int4Tensor"
    halves = torch.stack([tensor.qdata << 4, tensor.qdata], dim=-1) >> 4  # Keeps the signs.
    values = halves.flatten(-2).int().reshape(-1, tensor.shape[-1]) + 8
    scale, zero = (p.mT.reshape(len(values), -1) for p in (tensor.scale, tensor.zero_point))
    whole = ao._dequantize_affine_tinygemm(
        values, (1, 32), scale, zero, torch.int32, 0, 15, output_dtype=torch.float32
    )
    return whole.view(tensor.shape)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("bits", KINDS)
@pytest.mark.parametrize("kind", ["moe", "dense"])
def test_torchao_reads_the_same_weights(tmp_path, kind, bits):
    model, found = saved(tmp_path, bits, kind), read_by_torchao(tmp_path)
    packed = packed_matrices(model)
    assert len(packed) >= 2 * 5
    for name, matrices in packed.items():
        assert isinstance(matrices, PackedMatrices)
        ours = torch.stack([matrices.dequantise(n) for n in range(matrices.shape[0])])
        theirs = weights_of(found[name]).view_as(ours)
        if bits == "int8":
            assert torch.equal(theirs, ours), name
        else:  # Both round a product and a sum in float32, in another order.
            torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-6 * float(ours.abs().max()))
    for name in ("model.embed_tokens.weight", "model.layers.0.input_layernorm.weight"):
        assert name in found and found[name].dtype == torch.float32


@pytest.mark.filterwarnings("ignore")
def test_transformers_opens_a_saved_dense_int8_model(tmp_path):
    transformers = pytest.importorskip("transformers")
    model = saved(tmp_path, "int8", "dense")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert type(theirs.model.layers[0].mlp.up_proj.weight).__name__ == "Int8Tensor"
    with torch.no_grad():
        expected, found = theirs(tokens(vocab=50)).logits, model(tokens(vocab=50))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bits", KINDS)
def test_a_changed_byte_is_refused(tmp_path, bits):
    saved(tmp_path, bits)
    path = tmp_path / "model.safetensors"
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    for place in range(start, len(data), (len(data) - start) // 20):
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"is no intact quantised model \(.*fetch it"):
            load_model(tmp_path)
        data[place] ^= 1
    path.write_bytes(data[:-1])
    with pytest.raises(CheckpointError, match="is no intact quantised model"):
        load_model(tmp_path)
    path.write_bytes(data)
    load_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": 1}, "which the model does not have"),
        ({"num_hidden_layers": 9}, "is no intact quantised model"),
        ({"num_hidden_layers": 4096}, "fewer tensors than layers"),
        ({"hidden_size": 96}, "expected torch"),
        ({"torch_dtype": "bfloat16"}, "expected torch.bfloat16"),
        ({"torch_dtype": None}, "does not say in which dtype"),
        ({"quantization_config": {"qwen3lab": {"format": 2, "kind": "int8"}}}, "another format"),
        ({"quantization_config": {"qwen3lab": {"format": 1, "kind": "x"}}}, "expected one of int8"),
        ({"quantization_config": {"qwen3lab": {"format": 1, "kind": "int4"}}}, "no intact"),
        ({"quantization_config": {"quant_method": "torchao"}}, "quantised with torchao"),
    ],
)
def test_a_config_of_another_model_is_refused(tmp_path, change, message):
    saved(tmp_path, "int8")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path)


def test_a_saved_model_is_loaded_as_it_is_or_refused(tmp_path):
    model = saved(tmp_path, "int8")
    assert load_model(tmp_path, quantise="int8", dtype="float32").dtype == torch.float32
    with pytest.raises(CheckpointError, match="only unquantised ones can be streamed"):
        load_model(tmp_path, memory="1GB")
    with pytest.raises(CheckpointError, match="weights in int8, which are not quantised to int4"):
        load_model(tmp_path, quantise="int4")
    with pytest.raises(CheckpointError, match="computes in float32: load it without dtype="):
        load_model(tmp_path, dtype="bfloat16")
    with pytest.raises(CheckpointError, match=r"saved as it is, .* computes in torch.float32"):
        save_checkpoint(model, tmp_path, dtype="float16")


def test_a_saved_model_is_loaded_without_torchao(tmp_path, monkeypatch):
    saved(tmp_path, "int4")
    monkeypatch.setitem(sys.modules, "torchao.quantization.quant_primitives", None)
    found = quantisation_of(load_model(tmp_path))
    assert found is not None and found.kind == "int4"
