"""Fingerprint of a model's weights, which distinguishes models of the same name and sizes."""

import hashlib
from math import gcd

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from qwen3lab.device.grad_mode import without_grad
from qwen3lab.model.transformer import Qwen3

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
GROUP_SIZE = 64
"""Number of neighbouring values in a row that are summed before hashing, for speed."""
MAX_FULLY_HASHED_VALUES = 2**18
"""Larger tensors are hashed in groups; in small models, one group would span a whole head."""


@without_grad
def fingerprint(model: Qwen3, dtype: torch.dtype | None = None) -> str:
    """A SHA-256 digest of a model's weights, as hexadecimal text.

    The digest covers every bit of the weights in memory, quantised ones included. For streamed
    weights it covers the names, sizes and modification times of the files instead. Weights
    are read once.

    Args:
        model: whose weights.
        dtype: that the weights in the model's dtype are rounded to first: the digest is then that
            of the same model, loaded in this dtype. As they are if None.

    Raises:
        CheckpointError: a file of a streamed model is missing.
    """
    digest = hashlib.sha256()
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if dtype is not None and value.dtype == model.dtype:
            value = value.to(dtype)
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(_sums(value).cpu().numpy().tobytes())
    if model.blocks.is_streamed:
        digest.update("\n".join(model.blocks.file_stamps()).encode())
    return digest.hexdigest()


def _sums(value: Shaped[Tensor, "*any column"]) -> Int[Tensor, "*any group"]:
    """Sum of the values' bits as integers, for each group of neighbours; sums wrap around."""
    bits = value.view(INTEGERS[value.itemsize])
    size = 1 if bits.numel() <= MAX_FULLY_HASHED_VALUES else gcd(bits.shape[-1], GROUP_SIZE)
    return bits.unflatten(-1, (-1, size)).sum(dim=-1, dtype=bits.dtype)
