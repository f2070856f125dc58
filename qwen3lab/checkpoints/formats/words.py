"""Integers of a few bits that are packed into words of 32 bits, the lowest bits first."""

import torch
from jaxtyping import Int
from torch import Tensor

WORD_BITS = 32


def unpacked(words: Int[Tensor, "row word"], bits: int) -> Int[Tensor, "row value"]:
    """The values of each row of words, from 0 to 2^bits - 1.

    Args:
        words: int32.
        bits: of a value, which divide 32.
    """
    shifts = torch.arange(0, WORD_BITS, bits, dtype=torch.int32, device=words.device)
    # A shift of a negative word fills with ones, which the mask removes.
    return ((words[:, :, None] >> shifts) & (2**bits - 1)).flatten(1)
