"""Checkpoints of random weights, written tensor by tensor: they may be larger than memory."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from qwen3lab.bench.sparse_checkpoint import describe
from qwen3lab.checkpoints.tensor_names import published_tensors
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.model.transformer import Qwen3

STD = 0.02


def write_random(
    config: Qwen3Config, folder: Path, *, device: torch.device | str, dtype: torch.dtype
) -> None:
    """Write a checkpoint of random matrices, the same every time, and norms of 1.

    Args:
        config: its sizes.
        folder: where to, which exists.
        device: where they are drawn.
        dtype: of the weights.
    """
    chance = torch.Generator(device).manual_seed(0)
    where, total = {}, 0
    for number, (name, bare) in enumerate(Qwen3(config, device="meta").named_parameters()):
        value = torch.ones(bare.shape, device=device, dtype=dtype)
        if value.ndim > 1:
            value.normal_(0.0, STD, generator=chance)
        file, parts = f"model-{number:05}.safetensors", _parts(name, value)
        save_file(parts, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(parts, file)
        total += value.nbytes
    describe(config, folder, dtype=dtype, where=where, n_bytes=total)


def _parts(name: str, value: Tensor) -> dict[str, Tensor]:
    """What a parameter is in published files."""
    return {part: piece.contiguous() for part, piece in published_tensors(name, value.cpu())}
