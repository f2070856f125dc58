"""A map as a PNG picture, one pixel for each cell."""

import struct
import zlib

import numpy as np
from jaxtyping import Float
from torch import Tensor

from qwen3lab.figures.scales import ColourScale
from qwen3lab.widgets.components.heatmap import LEVELS, palette_bytes, quantise

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PALETTE = 3
"""Colour type of a picture whose pixels are numbers of colours."""


def map_png(values: Float[Tensor, "row column"], scale: ColourScale, palette: str) -> bytes:
    """The picture of a map; cells of NaN are transparent."""
    rows, columns = values.shape
    levels = np.frombuffer(quantise(values, scale), np.uint8).reshape(rows, columns)
    no_filter = np.zeros((rows, 1), np.uint8)  # The first byte of each row says how it is packed.
    data = zlib.compress(np.hstack([no_filter, levels]).tobytes(), 9)
    header = struct.pack(">IIBBBBB", columns, rows, 8, PALETTE, 0, 0, 0)
    colours = np.frombuffer(palette_bytes(palette), np.uint8).reshape(256, 3)
    places = np.linspace(0, 255, LEVELS).round().astype(int)  # Of levels 1 to 255.
    colours = bytes(3) + colours[places].tobytes()  # Level 0 is no value.
    chunks = [(b"IHDR", header), (b"PLTE", colours), (b"tRNS", b"\0"), (b"IDAT", data)]
    return SIGNATURE + b"".join(_chunk(*each) for each in [*chunks, (b"IEND", b"")])


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum
