"""Writes a checkpoint's matrices in the formats of other libraries.

What the decoders make of single matrices is compared with those libraries elsewhere; these writers
give whole models, which `transformers` opens after its own or these writers' decoding.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Parts = dict[str, Tensor]
GROUP = 16
MLX_GROUP = 32
BLOCK = (32, 24)


def gptq(weight: Tensor) -> tuple[Parts, Tensor]:
    """The parts of a matrix in GPTQ's second version, 4 bits, and what they stand for."""
    scales, zeros = _grid(weight)
    groups = torch.arange(weight.shape[1]) // GROUP
    q = (weight / scales[:, groups] + zeros[:, groups]).round().clamp(0, 15)
    decoded = scales[:, groups] * (q - zeros[:, groups])
    parts = {
        "qweight": _packed(q.int()).T,
        "qzeros": _packed(zeros.T.int()),
        "scales": scales.T.half(),
        "g_idx": groups.int(),
    }
    return parts, decoded


def awq(weight: Tensor) -> tuple[Parts, Tensor]:
    """The parts of a matrix in AWQ's layout "gemm", and what they stand for."""
    scales, zeros = _grid(weight)
    groups = torch.arange(weight.shape[1]) // GROUP
    q = (weight / scales[:, groups] + zeros[:, groups]).round().clamp(0, 15)
    decoded = scales[:, groups] * (q - zeros[:, groups])
    order = [0, 2, 4, 6, 1, 3, 5, 7]

    def packed(rows: Tensor) -> Tensor:
        return _packed(rows.int().unflatten(1, (-1, 8))[:, :, order].flatten(1))

    parts = {"qweight": packed(q.T), "qzeros": packed(zeros.T), "scales": scales.T.half()}
    return parts, decoded


def fp8(weight: Tensor) -> tuple[Parts, Tensor]:
    """The parts of a matrix in FP8 with a scale for each block, and what they stand for."""
    rows, columns = BLOCK
    (n_out, n_in), blocks = (
        weight.shape,
        [-(-n // b) for n, b in zip(weight.shape, BLOCK, strict=True)],
    )
    scales = torch.zeros(*blocks)
    for i in range(blocks[0]):
        for j in range(blocks[1]):
            block = weight[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
            scales[i, j] = block.abs().max() / 448
    spread = scales.repeat_interleave(rows, 0)[:n_out].repeat_interleave(columns, 1)[:, :n_in]
    stored = (weight / spread).to(torch.float8_e4m3fn)
    return {"weight": stored, "weight_scale_inv": scales}, stored.float() * spread


def int8(weight: Tensor) -> tuple[Parts, Tensor]:
    """The parts of a matrix in compressed-tensors' int8, and what they stand for."""
    scales = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-4) / 127
    q = (weight / scales).round()
    return {"weight": q.to(torch.int8), "weight_scale": scales}, q * scales


def mlx(weight: Tensor) -> tuple[Parts, Tensor]:
    """The parts of a matrix in MLX's 4 bits in groups of 32, and what they stand for."""
    grouped = weight.unflatten(-1, (-1, MLX_GROUP))
    low, high = grouped.amin(-1), grouped.amax(-1)
    scales, biases = ((high - low) / 15).clamp(min=1e-4).bfloat16(), low.bfloat16()
    q = ((grouped - biases[..., None]) / scales[..., None].float()).round().clamp(0, 15)
    decoded = (scales[..., None].float() * q + biases[..., None].float()).flatten(-2)
    words = q.long().flatten(-2).unflatten(-1, (-1, 8)) << torch.arange(0, 32, 4)
    packed = words.sum(-1).to(torch.int32).view(torch.uint32)
    return {"weight": packed, "scales": scales, "biases": biases}, decoded


WRITERS: dict[str, tuple[Callable[[Tensor], tuple[Parts, Tensor]], dict]] = {
    "gptq": (gptq, {"bits": 4, "group_size": GROUP, "checkpoint_format": "gptq_v2"}),
    "awq": (awq, {"bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}),
    "compressed-tensors": (
        int8,
        {
            "format": "int-quantized",
            "config_groups": {
                "group_0": {
                    "weights": {
                        "num_bits": 8,
                        "type": "int",
                        "strategy": "channel",
                        "symmetric": True,
                        "group_size": None,
                    },
                    "input_activations": None,
                    "targets": ["Linear"],
                }
            },
        },
    ),
    "mlx": (mlx, {"bits": 4, "group_size": MLX_GROUP}),
    "fp8": (fp8, {"activation_scheme": "dynamic", "weight_block_size": list(BLOCK)}),
}


def quantised(folder: Path, target: Path, method: str) -> Path:
    """A copy of a checkpoint whose projections are stored in a format; returns the decoded copy.

    The decoded copy holds what the packed tensors stand for, in float32.
    """
    write, fields = WRITERS[method]
    plain = target.with_name(f"{target.name}-decoded")
    for copy in (target, plain):
        shutil.copytree(folder, copy)
    packed, decoded = {}, {}
    for name, value in load_file(folder / "model.safetensors").items():
        if not name.endswith("_proj.weight"):
            packed[name] = decoded[name] = value.float()
            continue
        parts, decoded[name] = write(value.float())
        module = name.removesuffix(".weight")
        packed |= {f"{module}.{part}": each.contiguous() for part, each in parts.items()}
    save_file(packed, target / "model.safetensors", {"format": "pt"})
    save_file({n: v.contiguous() for n, v in decoded.items()}, plain / "model.safetensors")
    config = json.loads((target / "config.json").read_text())
    if method == "mlx":  # Without a method's name, and under both names, as mlx-lm writes it.
        config["quantization"] = config["quantization_config"] = fields
    else:
        config["quantization_config"] = {"quant_method": method, **fields}
    (target / "config.json").write_text(json.dumps(config))
    return plain


def _grid(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Scales, rounded to float16, and zeros of each output's groups of inputs."""
    grouped = weight.unflatten(1, (-1, GROUP))
    low, high = grouped.amin(-1).clamp(max=0), grouped.amax(-1).clamp(min=1e-4)
    scales = ((high - low) / 15).half().float()
    return scales, (-low / scales).round().clamp(0, 15)


def _packed(values: Tensor) -> Tensor:
    """Eight values of four bits in a word, the first in its lowest bits."""
    words = values.long().unflatten(1, (-1, 8)) << torch.arange(0, 32, 4)
    return words.sum(-1).to(torch.int32)
