"""Damaged checkpoints in the formats of other libraries, and damaged adapters and GGUF files.

Each is refused in one sentence, or gives the weights that the damaged files stand for, decoded
independently (`stored_formats`).
"""

import json
import math
import tempfile
import warnings
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from safetensors.torch import load
from torch import Tensor

from qwen3lab.checkpoints.gguf_folder import folder_of
from qwen3lab.checkpoints.given_adapters import open_adapters
from qwen3lab.loading import load_model
from qwen3lab.quantisation.packed_matrices import PackedMatrices
from tests.fuzz.cases import fuzz, refusable
from tests.fuzz.model_folders import CONFIG, SINGLE, Files, bounded, stored, with_json, written
from tests.fuzz.mutations import byte_mutations, json_mutations
from tests.fuzz.stored_formats import FORMATS, LAYER, SIZES, decoded, entry_of, folder_files, plain

NAMES = st.sampled_from(sorted(FORMATS))
KINDS = [
    *(torch.float32, torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.uint8),
    *(torch.int8, torch.float64, torch.bool, torch.float8_e4m3fn),
]
SETTINGS: dict[str, list[Any]] = {
    "quant_method": ["fp8", "gptq", "awq", "bitsandbytes", "compressed-tensors", "mlx", "int4", 7],
    "bits": [1, 2, 3, 4, 5, 6, 8, 0, -4, 4.0, "4", True],
    "num_bits": [2, 4, 8, 3, None],
    "group_size": [8, 16, 24, 32, 64, 128, -1, 0, 2**31, 2**70],
    "weight_block_size": [[32, 32], [16, 24], [2**31, 24], [2**70, 2**70], [0, 1], [32], None],
    "zero_point": [True, False, None],
    "symmetric": [True, False, None],
    "version": ["gemm", "GEMM", "gemv", None],
    "checkpoint_format": ["gptq", "gptq_v2", "marlin", None],
    "desc_act": [True, False, None],
    "dynamic": [{"-:.*": {}}, {}, None],
    "strategy": ["group", "channel", "tensor", "block", None],
    "actorder": ["group", "static", None, False],
    "format": ["pack-quantized", "int-quantized", "float-quantized", None],
    "type": ["int", "float"],
    "load_in_4bit": [True, False, None],
    "load_in_8bit": [True, False, None],
    "mode": ["affine", "mxfp4", None],
    "model.layers.0.mlp.up_proj": [{"bits": 8, "group_size": 32}, {"bits": 4}, True, False],
}
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"


def compare(model: torch.nn.Module, expected: dict[str, np.ndarray]) -> None:
    """Check every weight of a model against those expected, by published name."""
    ours = {name: value.detach().numpy() for name, value in model.named_parameters()}
    ours |= {
        name.replace(".packed", ".weight"): module.dequantise().numpy()
        for name, module in model.named_modules()
        if isinstance(module, PackedMatrices)
    }
    theirs = {_own_name(name): value for name, value in expected.items()}
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value.shape == theirs[name].shape, name
        np.testing.assert_allclose(value, theirs[name], rtol=1e-5, atol=1e-30, err_msg=name)


def _own_name(name: str) -> str:
    for old, new in (
        *(
            ("model.embed_tokens.", "embed."),
            ("model.norm.", "ln_final."),
            ("lm_head.", "unembed."),
        ),
        *(("model.layers.", "blocks."), ("self_attn.", "attn."), ("_proj.", ".")),
        *(("input_layernorm", "ln1"), ("post_attention_layernorm", "ln2")),
    ):
        name = name.replace(old, new)
    return name


def check(files: Files, keep: bool) -> None:
    """Check what loading a folder gives, with decoded weights or with those that stay packed."""
    quantise = "keep" if keep else None
    with written(files) as folder, warnings.catch_warnings(), refusable() as outcome, bounded():
        warnings.simplefilter("ignore")
        outcome.value = load_model(folder, dtype="float32", quantise=quantise)
    if outcome.refusal is None:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            compare(outcome.value, decoded(files))


@st.composite
def changed_tensors(draw: Any, held: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors after one or two changes: gone, renamed, exchanged, reshaped, converted, refilled."""
    held = dict(held)
    for _ in range(draw(st.sampled_from([1, 1, 2]))):
        name, other = (draw(st.sampled_from(sorted(held))) for _ in range(2))
        kind = draw(st.sampled_from(["drop", "rename", "copy", "swap", "shape", "dtype", "fill"]))
        value = held[name]
        if kind == "drop":
            del held[name]
        elif kind == "rename":
            held[draw(st.sampled_from([f"{name}_", f"x.{name}", other]))] = held.pop(name)
        elif kind == "copy":
            held[other] = value
        elif kind == "swap":
            held[name], held[other] = held[other], value
        elif kind == "shape":
            shapes = [value[None], value.flatten(), value.flatten()[:0]]
            if value.ndim:
                shapes += [value[:-1], value[..., :1], value.transpose(0, -1), value[:1]]
                shapes += [torch.cat([value, value]), torch.cat([value, value], dim=-1)]
            held[name] = draw(st.sampled_from(shapes))
        elif kind == "dtype":
            signed = value.view(torch.int32) if value.dtype == torch.uint32 else value
            held[name] = signed.float().to(draw(st.sampled_from(KINDS)))
        else:
            seed = torch.Generator().manual_seed(draw(st.integers(0, 99)))
            n_bytes = value.numel() * value.element_size()
            drawn = torch.randint(0, 256, (n_bytes,), dtype=torch.uint8, generator=seed)
            held[name] = drawn.view(value.dtype).view(value.shape) if n_bytes else value
    return held


@st.composite
def changed_settings(draw: Any, fields: dict[str, Any]) -> Any:
    """Settings with one to three likely values, or damaged as any JSON can be."""
    if draw(st.booleans()):
        return draw(json_mutations(fields, changes=2))
    fields = json.loads(json.dumps(fields))
    places = [fields]
    if "config_groups" in fields:
        places.append(fields["config_groups"]["group_0"]["weights"])
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(places))
        key = draw(st.sampled_from([key for key in place if key in SETTINGS] * 3 + list(SETTINGS)))
        place[key] = draw(st.sampled_from(SETTINGS[key]))
    return fields


@fuzz("formats", 0.3)
@given(name=NAMES, keep=st.booleans(), data=st.data())
def test_changed_tensors_of_a_format_give_what_they_stand_for(name, keep, data):
    files = folder_files(name)
    check({**files, SINGLE: stored(data.draw(changed_tensors(load(files[SINGLE]))))}, keep)


@fuzz("formats", 0.3)
@given(name=NAMES, keep=st.booleans(), data=st.data())
def test_changed_settings_of_a_format_are_followed_or_refused(name, keep, data):
    files = folder_files(name)
    config = json.loads(files[CONFIG])
    changed = data.draw(changed_settings(config[entry_of(name)]))
    check(with_json(files, CONFIG, config | {entry_of(name): changed}), keep)


@fuzz("formats", 0.1)
@given(name=NAMES, keep=st.booleans(), change=byte_mutations(0.2) | byte_mutations())
def test_damaged_bytes_of_a_format_give_what_they_stand_for(name, keep, change):
    files = folder_files(name)
    check({**files, SINGLE: change(files[SINGLE])}, keep)


@pytest.mark.parametrize("quantise", [None, "keep"])
@pytest.mark.parametrize("name", sorted(FORMATS))
def test_undamaged_files_are_read(name, quantise):
    files = folder_files(name)
    with written(files) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compare(load_model(folder, dtype="float32", quantise=quantise), decoded(files))


LORA = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "x",
    "r": 4,
    "lora_alpha": 6,
    "target_modules": ["q_proj", "down_proj"],
    "alpha_pattern": {"down_proj": 5},
    "rank_pattern": {},
    "use_rslora": True,
    "use_dora": False,
    "bias": "none",
    "init_lora_weights": True,
    "modules_to_save": ["norm"],
}
START = "base_model.model."
MAGNITUDE = "lora_magnitude_vector"


def adapter_tensors(*, dora: bool) -> dict[str, Tensor]:
    """The tensors of an adapter of two matrices, with a norm of its own."""
    seed = torch.Generator().manual_seed(9)
    held = {f"{START}model.norm.weight": torch.randn(32, generator=seed)}
    for module in ("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"):
        n_out, n_in = plain()[f"{module}.weight"].shape
        held[f"{START}{module}.lora_A.weight"] = torch.randn(4, n_in, generator=seed)
        held[f"{START}{module}.lora_B.weight"] = torch.randn(n_out, 4, generator=seed)
        if dora:
            held[f"{START}{module}.{MAGNITUDE}"] = torch.rand(n_out, generator=seed)
    return held


def merged(fields: dict[str, Any], held: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """The base model's weights with an adapter, by PEFT's definition."""
    found = {name: value.float().numpy() for name, value in plain().items()}
    for stored_name, value in held.items():
        name = stored_name.removeprefix(START)
        if name.endswith(".lora_A.weight"):
            module = name.removesuffix(".lora_A.weight")
            a, b = value.float(), held[f"{START}{module}.lora_B.weight"].float()
            patterns = (fields.get("alpha_pattern") or {}).items()
            own = [v for k, v in patterns if f".{module}".endswith(f".{k}")]
            alpha = own[0] if own else fields.get("lora_alpha", 8)
            rank = math.sqrt(len(a)) if fields.get("use_rslora") else len(a)
            weight = torch.from_numpy(found[f"{module}.weight"]) + alpha / rank * (b @ a)
            if fields.get("use_dora"):
                scale = held[f"{START}{module}.{MAGNITUDE}"].float()
                weight = weight * (scale / weight.norm(dim=1))[:, None]
            found[f"{module}.weight"] = weight.numpy()
        elif "lora_" not in name:
            found[name] = value.float().numpy()
    return found


def base_files() -> Files:
    """The files of the base model."""
    return with_json({SINGLE: stored(plain())}, CONFIG, SIZES)


@fuzz("formats", 0.15)
@given(dora=st.booleans(), data=st.data())
def test_damaged_adapters_are_refused_or_added_as_peft_adds_them(dora, data):
    fields, held = LORA | {"use_dora": dora}, adapter_tensors(dora=dora)
    content = stored(held)
    kind = data.draw(st.sampled_from(["tensors", "settings", "bytes"]))
    if kind == "tensors":
        content = stored(data.draw(changed_tensors(held)))
    elif kind == "settings":
        fields = data.draw(json_mutations(fields, changes=2))
    else:
        content = data.draw(byte_mutations(0.3) | byte_mutations())(content)
    files = with_json({ADAPTER: content}, ADAPTER_CONFIG, fields)
    with written(base_files()) as base, written(files) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with refusable() as outcome, bounded():
            outcome.value = load_model(base, dtype="float32", adapters=open_adapters(folder))
    if outcome.refusal is None:
        expected = merged(json.loads(files[ADAPTER_CONFIG]), load(content))
        ours = {name: value.detach().numpy() for name, value in outcome.value.named_parameters()}
        for name, value in expected.items():
            tolerance = 1e-5 * max(1.0, float(np.abs(value).max()))
            np.testing.assert_allclose(ours[_own_name(name)], value, rtol=1e-4, atol=tolerance)


BLOCK = "blk.0."
LLAMA = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
    f"{BLOCK}attn_norm.weight": f"{LAYER}input_layernorm.weight",
    f"{BLOCK}ffn_norm.weight": f"{LAYER}post_attention_layernorm.weight",
    f"{BLOCK}attn_output.weight": f"{LAYER}self_attn.o_proj.weight",
    **{f"{BLOCK}attn_{x}.weight": f"{LAYER}self_attn.{x}_proj.weight" for x in "qkv"},
    **{f"{BLOCK}attn_{x}_norm.weight": f"{LAYER}self_attn.{x}_norm.weight" for x in "qk"},
    **{f"{BLOCK}ffn_{x}.weight": f"{LAYER}mlp.{x}_proj.weight" for x in ("gate", "up", "down")},
}
"""The published name of each of llama.cpp's."""
TYPES = gguf.GGMLQuantizationType
GGUF_FIELDS: dict[str, Any] = {
    "qwen3.context_length": 64,
    "qwen3.embedding_length": 32,
    "qwen3.block_count": 1,
    "qwen3.feed_forward_length": 64,
    "qwen3.attention.head_count": 2,
    "qwen3.attention.head_count_kv": 1,
    "qwen3.attention.key_length": 16,
    "qwen3.attention.value_length": 16,
    "qwen3.attention.layer_norm_rms_epsilon": 1e-6,
    "qwen3.rope.freq_base": 1e4,
}
ODD_FIELDS = [0, 1, 2, 3, 2**31, 2**32 - 1, -1, 0.0, 1.5, float("nan"), float("inf"), "", "x", True]
MORE_FIELDS = ["split.count", "split.no", "qwen3.pooling_type", "qwen3.rope.scaling.type"]
MORE_FIELDS += ["qwen3.expert_count", "general.alignment", "qwen3.attention.sliding_window"]


def gguf_bytes(tensors: dict[str, tuple[np.ndarray, TYPES]], fields: dict[str, Any]) -> bytes:
    """A GGUF file, as the package writes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        writer = gguf.GGUFWriter(path, "qwen3")
        for key, value in fields.items():
            add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
            add = writer.add_string if isinstance(value, str) else add
            add = writer.add_bool if isinstance(value, bool) else add
            add = writer.add_int32 if isinstance(value, int) and value < 0 else add
            add(key, value)
        for name, (value, kind) in tensors.items():
            held = value if kind == TYPES.F32 else gguf.quants.quantize(value, kind)
            writer.add_tensor(name, np.ascontiguousarray(held), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def gguf_tensors() -> dict[str, tuple[np.ndarray, TYPES]]:
    """The tensors of the model, matrices in three types."""
    kinds = [TYPES.Q8_0, TYPES.F16, TYPES.Q4_0]
    return {
        name: (plain()[full].numpy(), TYPES.F32 if "norm" in name else kinds[place % 3])
        for place, (name, full) in enumerate(LLAMA.items())
    }


@st.composite
def changed_gguf(draw: Any) -> bytes:
    """A GGUF file with other tensors or fields."""
    tensors, fields = gguf_tensors(), dict(GGUF_FIELDS)
    for _ in range(draw(st.sampled_from([1, 1, 2]))):
        kind = draw(st.sampled_from(["field", "drop", "rename", "swap", "shape", "type", "gone"]))
        name, other = (draw(st.sampled_from(sorted(tensors))) for _ in range(2))
        value, of_type = tensors[name]
        if kind == "field":
            key = draw(st.sampled_from([*GGUF_FIELDS, *MORE_FIELDS]))
            fields[key] = draw(st.sampled_from(ODD_FIELDS))
        elif kind == "gone":
            fields.pop(draw(st.sampled_from(list(GGUF_FIELDS))), None)
        elif kind == "drop":
            del tensors[name]
        elif kind == "rename":
            names = [f"{name}_", "blk.1.attn_q.weight", "blk.0.ffn_up_exps.weight", "x"]
            tensors[draw(st.sampled_from(names))] = tensors.pop(name)
        elif kind == "swap":
            tensors[name], tensors[other] = tensors[other], tensors[name]
        elif kind == "shape":
            shapes = [value[None], value[:-1], value[:1], np.concatenate([value, value])]
            tensors[name] = (draw(st.sampled_from(shapes)), of_type)
        elif value.ndim > 1:
            chosen = draw(st.sampled_from([TYPES.F32, TYPES.BF16, TYPES.Q5_0, TYPES.Q4_1]))
            tensors[name] = (value, chosen)
    return gguf_bytes(tensors, fields)


def decoded_gguf(content: bytes) -> dict[str, np.ndarray]:
    """The tensors of a GGUF file as the package reads them, by published name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        path.write_bytes(content)
        found = {}
        for each in gguf.GGUFReader(path).tensors:
            values = gguf.quants.dequantize(np.array(each.data), each.tensor_type)
            shape = [int(size) for size in reversed(each.shape)]
            found[LLAMA.get(each.name, each.name)] = values.reshape(shape)
        return found


def check_gguf(content: bytes) -> None:
    """Check what loading a GGUF file gives; its tokenizer is not what is damaged."""
    files = {"model.gguf": content, "tokenizer.json": b"{}"}
    with written(files) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with refusable() as outcome, bounded():
            outcome.value = load_model(folder_of(folder / "model.gguf"), dtype="float32")
        if outcome.refusal is None:
            compare(outcome.value, decoded_gguf(content))


def test_an_undamaged_gguf_file_is_read():
    content = gguf_bytes(gguf_tensors(), GGUF_FIELDS)
    with written({"model.gguf": content, "tokenizer.json": b"{}"}) as folder:
        model = load_model(folder_of(folder / "model.gguf"), dtype="float32")
    compare(model, decoded_gguf(content))


@fuzz("formats", 0.1)
@given(content=changed_gguf())
def test_changed_gguf_files_give_what_they_hold(content):
    check_gguf(content)


@fuzz("formats", 0.05)
@given(change=byte_mutations(0.15) | byte_mutations())
def test_damaged_bytes_of_a_gguf_file_give_what_they_hold(change):
    check_gguf(change(gguf_bytes(gguf_tensors(), GGUF_FIELDS)))
