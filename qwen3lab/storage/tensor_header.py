"""Reads the header of a safetensors file, without mapping the file into memory.

A mapped file that another program cuts short kills the process at the next access. Here a file is
read, so that such a change is an error like any other.
"""

import json
from dataclasses import dataclass
from math import prod
from os import SEEK_END
from typing import Any, BinaryIO

import torch

MAX_HEADER_BYTES = 10**8
"""As in the safetensors library."""
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}
"""Dtypes that are read, by their code in the file format."""
OTHER_BITS = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "U16": 16,
    "U32": 32,
    "U64": 64,
}
"""Bits of a value of the format's other dtypes, whose tensors are listed but not read."""


@dataclass(frozen=True)
class StoredTensor:
    """Dtype code and shape of a tensor in a file, its first byte's file offset, and its size."""

    code: str
    shape: tuple[int, ...]
    offset: int
    n_bytes: int

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype; None for one that is not in `DTYPES`."""
        return DTYPES.get(self.code)


@dataclass(frozen=True)
class Header:
    """Tensors of a file by name, and its metadata."""

    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]


def read_header(file: BinaryIO) -> Header:
    """Read and check the header of a safetensors file.

    The file starts with the header's length in eight bytes, then the header as JSON, then the
    tensors without gaps.

    Raises:
        ValueError: the file is cut short or damaged; the message says where.
        OSError: the file cannot be read.
    """
    size = file.seek(0, SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
        raise ValueError(f"its header of {length} bytes does not fit its {size} bytes")
    fields = _parsed(file.read(length))
    metadata = fields.pop("__metadata__", None)
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("its metadata is not a mapping of texts")
    tensors = {name: _stored(name, entry, 8 + length) for name, entry in fields.items()}
    _check_coverage(tensors, 8 + length, size)
    return Header(tensors, metadata)


def _parsed(text: bytes) -> dict[str, Any]:
    """The header's fields; refuses what JSON does not define but Python reads."""
    try:
        fields = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"its header is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError("its header is not a JSON object")
    return fields


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for text in (text for pair in pairs for text in pair if isinstance(text, str)):
        text.encode()  # Refuses halves of surrogate pairs.
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name occurs twice")
    return fields


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def _stored(name: str, entry: Any, start: int) -> StoredTensor:
    """A tensor's entry; `start` is the file offset of the first tensor."""
    try:
        code, shape, (first, last) = entry["dtype"], entry["shape"], entry["data_offsets"]
        bits = DTYPES[code].itemsize * 8 if code in DTYPES else OTHER_BITS[code]
        sizes = [*shape, first, last]
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"the entry of {name} has no known dtype, shape and offsets") from error
    if not all(type(n) is int and 0 <= n < 2**63 for n in sizes) or first > last:
        raise ValueError(f"the entry of {name} has a shape or offsets that are no sizes")
    if prod(shape) * bits != (last - first) * 8:
        raise ValueError(f"{name} of shape {shape} and dtype {code} has {last - first} bytes")
    return StoredTensor(code, tuple(shape), start + first, last - first)


def _check_coverage(tensors: dict[str, StoredTensor], start: int, size: int) -> None:
    """Check that the tensors fill the rest of the file without gap or overlap."""
    for name, stored in sorted(tensors.items(), key=lambda i: (i[1].offset, i[1].n_bytes)):
        if stored.offset != start:
            raise ValueError(f"{name} does not start where the tensor before it ends")
        start += stored.n_bytes
    if start != size:
        raise ValueError(f"its tensors end at byte {start}, and it has {size} bytes")
