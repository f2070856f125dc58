"""Four bits in the order in which torch's kernel for CPUs reads them, there and back.

The order depends on the machine's vector units and is written down nowhere, so it is found out:
numbers of rows and columns are packed bit by bit, and read where they come to stand.
"""

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

PROBE = 32
"""Columns that the order is found out with; the kernel wants a multiple of 32."""


@dataclass(frozen=True)
class Band:
    """Rows that are packed together, column after column.

    Attributes:
        order: the place among the unpacked nibbles, all lower halves first, of each row.
    """

    order: Int[Tensor, " row"]


def packed(q: Int[Tensor, "row column"]) -> UInt8[Tensor, "row half"]:
    """Numbers from 0 to 15, two in a byte."""
    return torch.ops.aten._convert_weight_to_int4pack_for_cpu(q, 1)


def unpacked(packed: UInt8[Tensor, "row half"]) -> UInt8[Tensor, "row column"]:
    """The numbers again, each at its place."""
    columns, flat = 2 * packed.shape[1], packed.flatten()
    out, start = [], 0
    for band in bands(packed.shape[0]):
        rows = len(band.order)
        half = flat[start : start + columns * rows // 2].view(columns, rows // 2)
        nibbles = torch.cat([half & 15, half >> 4], dim=-1)
        out.append(nibbles.T[band.order])
        start += half.numel()
    return torch.cat(out)


@cache
def bands(rows: int) -> tuple[Band, ...]:
    """The bands of a matrix of so many rows, one after another."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(PROBE), indexing="ij")
    found_row, found_column = _where(row), _where(column)
    bands, start = [], 0
    while start < rows * PROBE // 2:
        # A band starts with its first column, whose bytes stand together.
        of_first = found_column[0, start:] == 0
        width = int(of_first.logical_not().nonzero()[0])
        here = found_row[:, start : start + width].flatten()
        bands.append(Band((here - here.min()).argsort()))
        start += width * PROBE
    return tuple(bands)


def _where(number: Int[Tensor, "row column"]) -> Int[Tensor, "half byte"]:
    """The number that comes to stand in the lower and in the upper half of each byte."""
    found = torch.zeros(2, number.numel() // 2, dtype=torch.long)
    for bit in range(int(number.max()).bit_length()):
        flat = packed((number >> bit & 1).int().contiguous()).flatten().long()
        found |= torch.stack([flat & 15, flat >> 4]) << bit
    return found
