"""Walks through the header of a GGUF file, so that a damaged length is refused at once.

The `gguf` package counts to whatever length an array states, also beyond the end of the file.

Source: the GGUF specification in ggml's `docs/gguf.md`.
"""

import struct
from pathlib import Path
from typing import BinaryIO

MAGIC = b"GGUF"
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value of each scalar type."""
TEXT, ARRAY = 8, 9
MAX_ITEMS = 2**22
"""Of an array; vocabularies have less than 2^18."""
MAX_DEPTH = 4
MAX_AXES = 4
"""Of a tensor, as in ggml."""


def check_bounds(path: Path) -> None:
    """Check that all fields and tensors of a header end inside of the file.

    Raises:
        ValueError: one does not, or the file is none that this package reads.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        walk = _Walk(file, path.stat().st_size)
        magic, version = file.read(4), walk.integer(4)
        if magic != MAGIC:
            raise ValueError("it does not begin with GGUF")
        if version & 0xFFFF == 0:
            raise ValueError("it is written for machines with the other order of bytes")
        n_tensors, n_fields = walk.integer(8), walk.integer(8)
        for _ in range(n_fields):
            walk.skip(walk.integer(8))
            walk.value(walk.integer(4))
        for _ in range(n_tensors):
            walk.skip(walk.integer(8))
            n_axes = walk.integer(4)
            if n_axes > MAX_AXES:
                raise ValueError(f"a tensor has {n_axes} axes")
            walk.skip(8 * n_axes + 4 + 8)


class _Walk:
    """Moves through a file, but not beyond its end."""

    def __init__(self, file: BinaryIO, n_bytes: int) -> None:
        self.file, self.n_bytes = file, n_bytes

    def integer(self, size: int) -> int:
        held = self.file.read(size)
        if len(held) < size:
            raise ValueError("it ends within its header")
        return struct.unpack("<I" if size == 4 else "<Q", held)[0]

    def skip(self, n_bytes: int) -> None:
        if self.file.tell() + n_bytes > self.n_bytes:
            raise ValueError("a length in its header is larger than the file")
        self.file.seek(n_bytes, 1)

    def value(self, kind: int, depth: int = 0) -> None:
        if kind in SIZES:
            self.skip(SIZES[kind])
        elif kind == TEXT:
            self.skip(self.integer(8))
        elif kind == ARRAY and depth < MAX_DEPTH:
            self._array(depth + 1)
        else:
            raise ValueError(f"a field in its header has the unknown type {kind}")

    def _array(self, depth: int) -> None:
        kind, n_items = self.integer(4), self.integer(8)
        if n_items > MAX_ITEMS:
            raise ValueError(f"an array in its header states {n_items} items")
        if kind in SIZES:
            self.skip(n_items * SIZES[kind])
            return
        for _ in range(n_items):
            self.value(kind, depth)
