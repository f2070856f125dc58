"""What tells the weights of one model from those of another that has its name and its sizes."""

import hashlib
from math import gcd

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from qwen3lab.model.transformer import Qwen3
from qwen3lab.streaming.streamed_model import StreamedBlocks

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
GROUP = 64
"""Neighbours in a row whose bits are added up: few to hash then, and read as fast as can be."""
SMALL = 2**18
"""Values up to which all are hashed, since whole heads of small models lie within a group."""


@torch.no_grad()
def fingerprint(model: Qwen3) -> str:
    """A short text that is another one for other weights.

    Of weights in memory every bit counts, quantised ones included; they are read once, as in a
    forward pass. Of those that are streamed the files' names, sizes and times of change count.

    Raises:
        CheckpointError: a file of a streamed model is gone.
    """
    digest = hashlib.sha256()
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(_sums(value).cpu().numpy().tobytes())
    if isinstance(model.blocks, StreamedBlocks):
        digest.update("\n".join(model.blocks.weight_cache.weights.file_stamps()).encode())
    return digest.hexdigest()


def _sums(value: Shaped[Tensor, "*any column"]) -> Int[Tensor, "*any group"]:
    """The bits of neighbours, taken for whole numbers and added up; sums wrap around."""
    bits = value.view(INTEGERS[value.itemsize])
    size = 1 if bits.numel() <= SMALL else gcd(bits.shape[-1], GROUP)
    return bits.unflatten(-1, (-1, size)).sum(dim=-1, dtype=bits.dtype)
