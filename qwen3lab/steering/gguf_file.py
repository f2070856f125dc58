"""GGUF files of float32 vectors: what llama.cpp's control vectors need of the format.

A file is read into memory and never mapped: a mapped file that is cut short kills the process.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (version 3, little-endian).
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MAGIC, VERSION, READ_VERSIONS = b"GGUF", 3, (2, 3)
ALIGNMENT = 32
MAX_FILE_BYTES = 2**28
"""Control vectors are small: 126 layers of 16,384 values take 8 MiB."""

UINT32, STRING, ARRAY, FLOAT32_TENSOR = 4, 8, 9, 0
SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a metadata value, by its type: integers, floats and booleans."""

Floats = np.ndarray


@dataclass(frozen=True)
class GgufFile:
    """Texts and 32-bit numbers of a file's metadata, and its float32 vectors by name."""

    metadata: Mapping[str, str | int]
    vectors: Mapping[str, Floats]


def to_bytes(file: GgufFile) -> bytes:
    """The content of a GGUF file."""
    head = MAGIC + struct.pack("<IQQ", VERSION, len(file.vectors), len(file.metadata))
    for name, value in file.metadata.items():
        is_text = isinstance(value, str)
        packed = _text(value) if is_text else struct.pack("<I", value)
        head += _text(name) + struct.pack("<I", STRING if is_text else UINT32) + packed
    body = b""
    for name, vector in file.vectors.items():
        head += _text(name) + struct.pack("<IQIQ", 1, len(vector), FLOAT32_TENSOR, len(body))
        body += _padded(np.ascontiguousarray(vector, dtype="<f4").tobytes())
    return _padded(head) + body


def read_gguf(path: Path) -> GgufFile:
    """Read a GGUF file that holds vectors only.

    Raises:
        ValueError: the file is no GGUF file of float32 vectors, or is damaged.
        OSError: it is missing, or cannot be read.
    """
    if path.exists() and not path.is_file():  # Reading a pipe would block.
        raise OSError("it is not a regular file")
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"it has more than {MAX_FILE_BYTES:,} bytes")
    return _Reader(content).file()


class _Reader:
    """Reads the content of a file from its start."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def file(self) -> GgufFile:
        """All of the file."""
        if self._take(4) != MAGIC:
            raise ValueError("it does not start with GGUF")
        version = self._number("I")
        if version not in READ_VERSIONS:
            raise ValueError(f"its version is {version}: expected 2 or 3, little-endian")
        n_tensors, n_values = self._number("Q"), self._number("Q")
        metadata: dict[str, str | int] = {}
        for _ in range(n_values):
            name, value = self._text(), self._value(self._number("I"))
            if value is not None:
                metadata[name] = value
        places = [self._place() for _ in range(n_tensors)]
        alignment = metadata.get("general.alignment", ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError("its alignment is no size")
        start = -(-self.at // alignment) * alignment
        return GgufFile(metadata, {name: self._vector(start, *at) for name, *at in places})

    def _take(self, n: int) -> bytes:
        if n > len(self.content) - self.at:
            raise ValueError("it ends too early")
        self.at += n
        return self.content[self.at - n : self.at]

    def _number(self, kind: str) -> int:
        return struct.unpack(f"<{kind}", self._take(struct.calcsize(f"<{kind}")))[0]

    def _text(self) -> str:
        return self._take(self._number("Q")).decode()

    def _value(self, kind: int) -> str | int | None:
        """A text or a 32-bit number; None for values of other types, which are passed over."""
        if kind == STRING:
            return self._text()
        if kind == UINT32:
            return self._number("I")
        if kind == ARRAY:
            inner, n = self._number("I"), self._number("Q")
            if inner == STRING:
                for _ in range(n):
                    self._text()
            else:
                self._take(n * _size(inner))
            return None
        self._take(_size(kind))
        return None

    def _place(self) -> tuple[str, int, int]:
        """Name, number of values and offset of a tensor."""
        name, n_axes = self._text(), self._number("I")
        if n_axes != 1:
            raise ValueError(f"its tensors have {n_axes} axes: expected vectors")
        n, kind, offset = self._number("Q"), self._number("I"), self._number("Q")
        if kind != FLOAT32_TENSOR:
            raise ValueError(f"its tensors have type {kind}: expected 0, float32")
        return name, n, offset

    def _vector(self, start: int, n: int, offset: int) -> Floats:
        self.at = min(start + offset, len(self.content))
        return np.frombuffer(self._take(4 * n), dtype="<f4").astype(np.float32)


def _size(kind: int) -> int:
    if kind not in SCALAR_BYTES:
        raise ValueError(f"a value of its metadata has the unknown type {kind}")
    return SCALAR_BYTES[kind]


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % ALIGNMENT)
