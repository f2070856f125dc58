"""A fingerprint of weights: tells a model from another of the same name and sizes."""

import hashlib
from math import gcd

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from qwen3lab.model.transformer import Qwen3

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
GROUP_SIZE = 64
"""Neighbouring values in a row whose bits are summed before they are hashed, for speed."""
MAX_FULLY_HASHED_VALUES = 2**18
"""A tensor of at most so many values is hashed value by value: in small models a whole head fits
into one group."""


@torch.no_grad()
def fingerprint(model: Qwen3) -> str:
    """A SHA-256 digest of a model's weights, as hexadecimal text.

    It depends on every bit of the weights in memory, quantised ones included, and for streamed
    weights on the files' names, sizes and times of change. Weights are read once.

    Raises:
        CheckpointError: a file of a streamed model is missing.
    """
    digest = hashlib.sha256()
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(_sums(value).cpu().numpy().tobytes())
    if model.blocks.is_streamed:
        digest.update("\n".join(model.blocks.file_stamps()).encode())
    return digest.hexdigest()


def _sums(value: Shaped[Tensor, "*any column"]) -> Int[Tensor, "*any group"]:
    """The bits of each group of neighbours as integers, summed; sums wrap around."""
    bits = value.view(INTEGERS[value.itemsize])
    size = 1 if bits.numel() <= MAX_FULLY_HASHED_VALUES else gcd(bits.shape[-1], GROUP_SIZE)
    return bits.unflatten(-1, (-1, size)).sum(dim=-1, dtype=bits.dtype)
