"""Checkpoints of random weights, written tensor by tensor, so they may be larger than memory."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from qwen3lab.bench.sparse_checkpoint import describe
from qwen3lab.checkpoints.tensor_names import published_tensors
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.model.transformer import Qwen3

WEIGHT_STD = 0.02


def write_random(
    config: Qwen3Config, folder: Path, *, device: torch.device | str, dtype: torch.dtype
) -> None:
    """Write a checkpoint with normally distributed matrices and norm weights of 1.

    The seed is fixed: the same config, device and dtype give the same weights.

    Args:
        config: configuration of the model.
        folder: folder of the checkpoint, which must exist.
        device: device of the random generator.
        dtype: dtype of the weights.
    """
    generator = torch.Generator(device).manual_seed(0)
    weight_map, total = {}, 0
    for number, (name, meta) in enumerate(Qwen3(config, device="meta").named_parameters()):
        value = torch.ones(meta.shape, device=device, dtype=dtype)
        if value.ndim > 1:
            value.normal_(0.0, WEIGHT_STD, generator=generator)
        file, parts = f"model-{number:05}.safetensors", _parts(name, value)
        save_file(parts, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(parts, file)
        total += value.nbytes
    describe(config, folder, dtype=dtype, where=weight_map, n_bytes=total)


def _parts(name: str, value: Tensor) -> dict[str, Tensor]:
    """The tensors of a parameter in a published checkpoint, by published name."""
    return {part: piece.contiguous() for part, piece in published_tensors(name, value.cpu())}
