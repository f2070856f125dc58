"""Decodes rows of GGUF's usual kinds on any device, from the bytes of the file.

The bits and the order of the roundings are those of the `gguf` package, which decodes in NumPy, on
the host: a matrix that stays packed on a GPU is decoded there, for each product.

Every kind is W = scale * q + offset, in blocks of 32 or 256 consecutive weights.

Source: llama.cpp, `ggml-common.h` (the blocks) and `gguf-py/gguf/quants.py`.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from qwen3lab.checkpoints.formats.packed_format import Grouped

BLOCK_BYTES = {
    "Q4_0": 18,
    "Q4_1": 20,
    "Q5_0": 22,
    "Q5_1": 24,
    "Q8_0": 34,
    "Q4_K": 144,
    "Q5_K": 176,
    "Q6_K": 210,
}
"""Size of a block of each kind that is decoded here."""
IN_FOUR_BITS = ("Q4_0", "Q4_1", "Q4_K")
"""Kinds with values of four bits, in groups of 32."""
Blocks = UInt8[Tensor, "block byte"]
Values = tuple[Float[Tensor, "block group"], Int[Tensor, "block group value"], Tensor | None]
"""Scales, values from 0, or around 0 without offset, and what is subtracted from each group."""


def decoded_rows(rows: UInt8[Tensor, "row byte"], kind: str) -> Float[Tensor, "row column"]:
    """The weights of rows.

    Args:
        rows: bytes of the file.
        kind: of `BLOCK_BYTES`.
    """
    scale, q, less = VALUES[kind](rows.reshape(-1, BLOCK_BYTES[kind]))
    out = scale[..., None] * q.float()
    if less is not None:
        out = out - less[..., None]
    return out.reshape(len(rows), -1)


def grouped_rows(rows: UInt8[Tensor, "row byte"], kind: str) -> Grouped | None:
    """Values, scales and offsets of rows whose kind has four bits; None for another kind."""
    if kind not in IN_FOUR_BITS:
        return None
    scale, q, less = VALUES[kind](rows.reshape(-1, BLOCK_BYTES[kind]))
    size = q.shape[-1]
    scale, q = scale.reshape(len(rows), -1), q.reshape(len(rows), -1)
    if less is None:  # Q4_0, whose values are from -8 to 7.
        return Grouped(q + 8, scale, -8 * scale, size)
    return Grouped(q, scale, -less.reshape(len(rows), -1), size)


def _q4_0(blocks: Blocks) -> Values:
    return _float(blocks, 0), _nibbles(blocks[:, 2:18])[:, None] - 8, None


def _q4_1(blocks: Blocks) -> Values:
    return _float(blocks, 0), _nibbles(blocks[:, 4:20])[:, None], -_float(blocks, 2)


def _q5_0(blocks: Blocks) -> Values:
    q = _nibbles(blocks[:, 6:22]) | _bits(blocks[:, 2:6]) << 4
    return _float(blocks, 0), q[:, None] - 16, None


def _q5_1(blocks: Blocks) -> Values:
    q = _nibbles(blocks[:, 8:24]) | _bits(blocks[:, 4:8]) << 4
    return _float(blocks, 0), q[:, None], -_float(blocks, 2)


def _q8_0(blocks: Blocks) -> Values:
    return _float(blocks, 0), blocks[:, None, 2:].view(torch.int8).int(), None


def _q4_k(blocks: Blocks) -> Values:
    scale, less = _scales_of_k(blocks)
    return scale, _nibbles(blocks[:, 16:].unflatten(1, (4, 32))).unflatten(1, (8, 32)), less


def _q5_k(blocks: Blocks) -> Values:
    scale, less = _scales_of_k(blocks)
    low = _nibbles(blocks[:, 48:].unflatten(1, (4, 32))).unflatten(1, (8, 32))
    places = torch.arange(8, device=blocks.device)[:, None]
    high = blocks[:, None, 16:48].int() >> places & 1
    return scale, low | high << 4, less


def _q6_k(blocks: Blocks) -> Values:
    low = _nibbles(blocks[:, :128].unflatten(1, (2, 64))).unflatten(1, (8, 32))
    shifts = torch.arange(0, 8, 2, device=blocks.device)[:, None]
    high = (blocks[:, 128:192].unflatten(1, (2, 1, 32)).int() >> shifts & 3).flatten(1, 2)
    q = (low | high << 4).flatten(1).unflatten(1, (16, 16)) - 32
    return _float(blocks, 208) * blocks[:, 192:208].view(torch.int8).float(), q, None


VALUES: dict[str, Callable[[Blocks], Values]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}


def _scales_of_k(
    blocks: Blocks,
) -> tuple[Float[Tensor, "block group"], Float[Tensor, "block group"]]:
    """Scales of the eight groups of Q4_K and Q5_K, and what is subtracted from each.

    Both have six bits a group: the first four groups' in the low bits of four bytes each, the
    others' in the halves of the last four bytes, with their two highest bits above the first ones.
    """
    first, second, halves = blocks[:, 4:16].int().unflatten(1, (3, 4)).unbind(dim=1)
    scale = torch.cat([first & 63, (halves & 15) | (first >> 2 & 48)], dim=1)
    less = torch.cat([second & 63, (halves >> 4) | (second >> 2 & 48)], dim=1)
    return _float(blocks, 0) * scale.float(), _float(blocks, 2) * less.float()


def _float(blocks: Blocks, place: int) -> Float[Tensor, "block 1"]:
    """The float16 number at a place of each block."""
    return blocks[:, place : place + 2].contiguous().view(torch.float16).float()


def _nibbles(packed: UInt8[Tensor, "block *any byte"]) -> Int[Tensor, "block value"]:
    """The lower halves of each row of bytes, then the upper ones."""
    values = packed.int()
    return torch.cat([values & 15, values >> 4], dim=-1).flatten(1)


def _bits(packed: UInt8[Tensor, "block byte"]) -> Int[Tensor, "block bit"]:
    """The bits of each row of bytes, the lowest first."""
    places = torch.arange(8, device=packed.device)
    return (packed.int()[:, :, None] >> places & 1).flatten(1)
