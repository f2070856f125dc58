"""Packs and unpacks int4 matrices in the layout of torch's CPU kernel.

The layout depends on the CPU's vector units and is not documented, so it is measured: the row and
column numbers are packed bit by bit, which shows where each value is stored.
"""

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

PROBE_COLUMNS = 32
"""Columns of the matrix that measures the layout; the kernel requires a multiple of 32."""


@dataclass(frozen=True)
class Band:
    """A group of consecutive rows that are packed together, column by column.

    Attributes:
        order: for each row, its index in the nibbles of a column (all lower nibbles first).
    """

    order: Int[Tensor, " row"]


def pack_int4(q: Int[Tensor, "row column"]) -> UInt8[Tensor, "row half"]:
    """Packs values from 0 to 15 in the kernel's layout, two per byte."""
    return torch.ops.aten._convert_weight_to_int4pack_for_cpu(q, 1)


def unpack_int4(packed: UInt8[Tensor, "row half"]) -> UInt8[Tensor, "row column"]:
    """The packed values in row and column order; the inverse of `pack_int4`."""
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
    """The bands of a matrix with this number of rows, in order."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(PROBE_COLUMNS), indexing="ij")
    row_of, column_of = _nibble_sources(row), _nibble_sources(column)
    bands, start = [], 0
    while start < rows * PROBE_COLUMNS // 2:
        # A band starts with the bytes of its first column; they are contiguous.
        is_first_column = column_of[0, start:] == 0
        width = int(is_first_column.logical_not().nonzero()[0])
        band_rows = row_of[:, start : start + width].flatten()
        bands.append(Band((band_rows - band_rows.min()).argsort()))
        start += width * PROBE_COLUMNS
    return tuple(bands)


def _nibble_sources(number: Int[Tensor, "row column"]) -> Int[Tensor, "half byte"]:
    """The values stored in the lower and in the upper nibble of each byte after packing."""
    sources = torch.zeros(2, number.numel() // 2, dtype=torch.long)
    for bit in range(int(number.max()).bit_length()):
        flat = pack_int4((number >> bit & 1).int().contiguous()).flatten().long()
        sources |= torch.stack([flat & 15, flat >> 4]) << bit
    return sources
