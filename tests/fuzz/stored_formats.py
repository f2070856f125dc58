"""Small models in the formats of other libraries, and what their files stand for, spelled in NumPy.

The decoders here share no code with the package. Words are read bit by bit, groups by division.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from safetensors.torch import load
from scipy.stats import norm
from torch import Tensor

from tests.checkpoints.formats import writers
from tests.fuzz.model_folders import CONFIG, SINGLE, Files, stored, with_json

Parts = dict[str, Tensor]
Decoder = Callable[[str, Mapping[str, Any], Parts], np.ndarray]
"""Takes a module's name, the settings and the module's parts."""

SIZES: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "intermediate_size": 64,
    "vocab_size": 40,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "torch_dtype": "float32",
}
LAYER = "model.layers.0."
SHAPES = {
    "model.embed_tokens.weight": (40, 32),
    "lm_head.weight": (40, 32),
    "model.norm.weight": (32,),
    **{f"{LAYER}{name}_layernorm.weight": (32,) for name in ("input", "post_attention")},
    **{f"{LAYER}self_attn.{x}_norm.weight": (16,) for x in "qk"},
    **{f"{LAYER}self_attn.{x}_proj.weight": (32, 32) for x in "qo"},
    **{f"{LAYER}self_attn.{x}_proj.weight": (16, 32) for x in "kv"},
    **{f"{LAYER}mlp.{x}_proj.weight": (64, 32) for x in ("gate", "up")},
    f"{LAYER}mlp.down_proj.weight": (32, 64),
}
NF4_BLOCK, NESTED_BLOCK = 64, 256


@cache
def plain() -> Parts:
    """The tensors of a random model, float32."""
    generator = torch.Generator().manual_seed(4)
    return {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in SHAPES.items()}


def nf4_levels() -> Tensor:
    """The levels of NF4: quantiles of the normal distribution, as its paper defines them."""
    offset = 0.9677083
    above = norm.ppf(np.linspace(offset, 0.5, 9)[:-1])
    below = -norm.ppf(np.linspace(offset, 0.5, 8)[:-1])
    levels = np.sort(np.concatenate([above, [0.0], below]))
    return torch.tensor(levels / levels.max(), dtype=torch.float32)


def nf4(weight: Tensor, *, nested: bool = False) -> Parts:
    """The parts of a matrix as bitsandbytes stores it in four bits."""
    blocks, levels = weight.flatten().view(-1, NF4_BLOCK), nf4_levels()
    absmax = blocks.abs().amax(1)
    codes = (blocks[:, :, None] / absmax[:, None, None] - levels).abs().argmin(-1).flatten()
    state = {"quant_type": "nf4", "blocksize": NF4_BLOCK, "dtype": "float32"}
    state |= {"shape": list(weight.shape)}
    packed = (codes[::2] * 16 + codes[1::2]).to(torch.uint8)[:, None]
    parts = {"weight": packed, "weight.absmax": absmax, "weight.quant_map": levels}
    if nested:
        offset = float(absmax.mean())
        nested_levels = torch.linspace(-1, 1, 256)
        largest = (absmax - offset).abs().amax().clamp(min=1e-6)
        near = ((absmax - offset)[:, None] / largest - nested_levels).abs().argmin(1)
        parts |= {"weight.absmax": near.to(torch.uint8), "weight.nested_absmax": largest[None]}
        parts |= {"weight.nested_quant_map": nested_levels}
        state |= {"nested_blocksize": NESTED_BLOCK, "nested_offset": offset}
    text = json.dumps(state).encode()
    parts["weight.quant_state.bitsandbytes__nf4"] = torch.tensor(list(text), dtype=torch.uint8)
    return parts


def bits8(weight: Tensor) -> Parts:
    """The parts of a matrix as bitsandbytes stores it in eight bits."""
    scales = weight.abs().amax(1)
    q = (weight * 127 / scales[:, None]).round().to(torch.int8)
    return {"weight": q, "SCB": scales, "weight_format": torch.tensor(0, dtype=torch.uint8)}


def packed_groups(weight: Tensor, *, symmetric: bool) -> Parts:
    """The parts of a matrix in compressed-tensors' packed groups of 16, four bits."""
    groups = weight.unflatten(1, (-1, 16))
    low, high = groups.amin(-1), groups.amax(-1)
    scales = groups.abs().amax(-1) / 7 if symmetric else (high - low) / 15
    zeros = torch.zeros_like(low) if symmetric else (-8 - low / scales).round().clamp(-8, 7)
    q = (groups / scales[..., None] + zeros[..., None]).round().clamp(-8, 7).flatten(1)
    parts = {"weight_packed": writers._packed(q.int() + 8), "weight_scale": scales}
    parts["weight_shape"] = torch.tensor(weight.shape, dtype=torch.int64)
    if not symmetric:
        parts["weight_zero_point"] = writers._packed(zeros.T.int() + 8).T
    return parts


def scheme(**weights: Any) -> dict[str, Any]:
    """The settings of compressed-tensors for one group of modules."""
    group = {"weights": {"type": "int", **weights}, "input_activations": None}
    return {"config_groups": {"group_0": {**group, "targets": ["Linear"]}}, "ignore": ["lm_head"]}


PACK = {"format": "pack-quantized"}
GROUPS = {"num_bits": 4, "strategy": "group", "group_size": 16}
FORMATS: dict[str, tuple[Callable[[Tensor], Parts], dict[str, Any]]] = {
    "fp8": (lambda w: writers.fp8(w)[0], {"quant_method": "fp8", **writers.WRITERS["fp8"][1]}),
    "gptq": (lambda w: writers.gptq(w)[0], {"quant_method": "gptq", **writers.WRITERS["gptq"][1]}),
    "awq": (lambda w: writers.awq(w)[0], {"quant_method": "awq", **writers.WRITERS["awq"][1]}),
    "nf4": (nf4, {"quant_method": "bitsandbytes", "load_in_4bit": True}),
    "nf4, scales quantised": (
        lambda w: nf4(w, nested=True),
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False},
    ),
    "int8": (bits8, {"quant_method": "bitsandbytes", "load_in_8bit": True}),
    "packed groups": (
        lambda w: packed_groups(w, symmetric=True),
        {"quant_method": "compressed-tensors", **PACK, **scheme(symmetric=True, **GROUPS)},
    ),
    "packed groups with zeros": (
        lambda w: packed_groups(w, symmetric=False),
        {"quant_method": "compressed-tensors", **PACK, **scheme(symmetric=False, **GROUPS)},
    ),
    "channels": (
        lambda w: writers.int8(w)[0],
        {"quant_method": "compressed-tensors", **writers.WRITERS["compressed-tensors"][1]},
    ),
    "mlx": (lambda w: writers.mlx(w)[0], {"bits": 4, "group_size": 32}),
}


def entry_of(name: str) -> str:
    """The entry of config.json that describes a format."""
    return "quantization" if name == "mlx" else "quantization_config"


@cache
def folder_files(name: str) -> Files:
    """The files of a model in a format."""
    write, fields = FORMATS[name]
    held: Parts = {}
    for full, value in plain().items():
        if full.endswith("_proj.weight"):
            module = full.removesuffix("weight")
            held |= {f"{module}{part}": each for part, each in write(value).items()}
        else:
            held[full] = value
    return with_json({SINGLE: stored(held)}, CONFIG, SIZES | {entry_of(name): fields})


def unpack(words: Tensor, bits: int) -> np.ndarray:
    """The values of each row of words, read as one stream of bits, the lowest first."""
    held = np.ascontiguousarray(words.contiguous().view(torch.int32).numpy()).astype("<i4")
    stream = np.unpackbits(held.view(np.uint8), axis=1, bitorder="little")
    each = stream.reshape(len(held), -1, bits).astype(np.int64)
    return (each << np.arange(bits)).sum(-1)


def _divided(n: int, size: int) -> np.ndarray:
    return np.array([i // size for i in range(n)])


def _gptq(module: str, fields: Mapping[str, Any], p: Parts) -> np.ndarray:
    scales = p["scales"].float().numpy()
    bits = fields["bits"]
    if fields.get("dynamic"):
        bits = p["qzeros"].shape[1] * 32 // scales.shape[1]
    q, zeros = unpack(p["qweight"].T, bits).T, unpack(p["qzeros"], bits)
    if fields.get("checkpoint_format", "gptq") == "gptq":
        zeros = zeros + 1
    size = len(q) if fields["group_size"] == -1 else fields["group_size"]
    if fields.get("dynamic") and -(-len(q) // size) != len(scales):
        size = len(q) // len(scales)
    groups = p["g_idx"].numpy() if "g_idx" in p else _divided(len(q), size)
    return (scales[groups] * (q - zeros[groups])).T


def _awq(module: str, fields: Mapping[str, Any], p: Parts) -> np.ndarray:
    def ordered(words: Tensor) -> np.ndarray:
        values = unpack(words, 4)
        outputs = range(values.shape[1])
        return values[:, [o - o % 8 + (0, 4, 1, 5, 2, 6, 3, 7)[o % 8] for o in outputs]]

    q, zeros, scales = ordered(p["qweight"]), ordered(p["qzeros"]), p["scales"].float().numpy()
    size = len(q) if fields["group_size"] == -1 else fields["group_size"]
    groups = _divided(len(q), size)
    return (scales[groups] * (q - zeros[groups])).T


def _fp8(module: str, fields: Mapping[str, Any], p: Parts) -> np.ndarray:
    weight, scales = p["weight"].float().numpy(), p["weight_scale_inv"].float().numpy()
    sizes = fields.get("weight_block_size", [128, 128])
    rows, columns = (_divided(n, s) for n, s in zip(weight.shape, sizes, strict=True))
    return weight * scales[np.ix_(rows, columns)]


def _bitsandbytes(module: str, fields: Mapping[str, Any], p: Parts) -> np.ndarray:
    if fields.get("load_in_8bit"):
        return p["weight"].float().numpy() * p["SCB"].float().numpy()[:, None] / 127
    name = next(part for part in p if "quant_state" in part)
    state = json.loads(bytes(p[name].tolist()))
    held = p["weight"].flatten().numpy()
    codes = np.stack([held // 16, held % 16], axis=1).flatten()
    absmax = p["weight.absmax"].numpy()
    if "weight.nested_absmax" in p:
        places = _divided(len(absmax), state["nested_blocksize"])
        levels = p["weight.nested_quant_map"].numpy()[absmax]
        absmax = levels * p["weight.nested_absmax"].numpy()[places] + float(state["nested_offset"])
    n = state["shape"][0] * state["shape"][1]
    flat = nf4_levels().numpy()[codes[:n]] * absmax[_divided(n, state["blocksize"])]
    return flat.reshape(state["shape"])


def _compressed(module: str, fields: Mapping[str, Any], p: Parts) -> np.ndarray:
    group = next(iter(fields["config_groups"].values()))["weights"]
    scales, bits = p["weight_scale"].float().numpy(), group.get("num_bits") or 8
    if fields.get("format", "pack-quantized") != "pack-quantized":
        q = p["weight"].float().numpy()
    else:
        bits = group.get("num_bits") or 4
        n_out, n_in = p["weight_shape"].tolist()
        q = unpack(p["weight_packed"], bits)[:n_out, :n_in] - 2 ** (bits - 1)
    zeros: np.ndarray = np.zeros_like(scales)
    if group.get("symmetric") is False:
        zeros = p["weight_zero_point"].numpy()
        if fields.get("format", "pack-quantized") == "pack-quantized":
            zeros = unpack(p["weight_zero_point"].T, bits).T[: len(q)] - 2 ** (bits - 1)
    if (group.get("strategy") or "group") == "group":
        size = group["group_size"]
        groups = _divided(q.shape[1], size if size > 0 else q.shape[1])
        groups = p["weight_g_idx"].numpy() if "weight_g_idx" in p else groups
        scales, zeros = scales[:, groups], zeros[:, groups]
    return (q - zeros) * scales


def _mlx(module: str, fields: Mapping[str, Any], p: Parts) -> np.ndarray:
    own = fields.get(module)
    settings = own if isinstance(own, Mapping) else fields
    q = unpack(p["weight"], settings["bits"])
    groups = _divided(q.shape[1], settings["group_size"])
    scales = p["scales"].float().numpy()[:, groups]
    return scales * q.astype(np.float32) + p["biases"].float().numpy()[:, groups]


DECODERS: dict[str, tuple[str, Decoder]] = {
    "fp8": ("weight_scale_inv", _fp8),
    "gptq": ("qweight", _gptq),
    "awq": ("qweight", _awq),
    "bitsandbytes": ("", _bitsandbytes),
    "compressed-tensors": ("weight_scale", _compressed),
    "mlx": ("scales", _mlx),
}
"""The part that shows that a module is packed, and the decoder, by method."""


def decoded(files: Files) -> dict[str, np.ndarray]:
    """The weights that a folder stands for, float64 or float32, by name."""
    config, held = json.loads(files[CONFIG]), load(files[SINGLE])
    fields = config.get("quantization") or config.get("quantization_config")
    if fields is None:
        return {name: value.float().numpy() for name, value in held.items()}
    method = "mlx" if config.get("quantization") is not None else fields["quant_method"]
    marker, decode = DECODERS[method]
    if method == "bitsandbytes":
        marker = "SCB" if fields.get("load_in_8bit") else "weight.absmax"
    modules = {n.removesuffix(f".{marker}") for n in held if n.endswith(f".{marker}")}
    found = {}
    for name, value in held.items():
        if not any(name.startswith(f"{module}.") for module in modules):
            found[name] = value.float().numpy()
    for module in modules:
        start = f"{module}."
        parts = {n.removeprefix(start): v for n, v in held.items() if n.startswith(start)}
        found[f"{module}.weight"] = decode(module, fields, parts)
    return found
