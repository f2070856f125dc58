"""Safetensors files with a checksum of each tensor, which is checked when the tensor is read.

The checksums are SHA-256: hashlib computes it with the processor's own instructions, which makes
it faster than BLAKE2, and unlike a CRC it also finds a change that was made on purpose and left the
checksums alone. A checksum covers a tensor's name, dtype and shape, too, so tensors cannot change
places. One more covers the metadata, the checksums among it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from math import prod
from pathlib import Path

import torch
from jaxtyping import Shaped
from safetensors.torch import save_file
from torch import Tensor

from qwen3lab.storage.tensor_header import Header, StoredTensor, read_header

DIGESTS, SEAL = "digests", "sha256"
"""Metadata entries: the checksums of the tensors, and that of the metadata."""


def save_checked(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str], *, by_row: bool = False
) -> None:
    """Write a safetensors file with checksums.

    Args:
        tensors: contiguous, on the CPU, by name.
        path: of the file.
        metadata: texts by name; not `DIGESTS` or `SEAL`.
        by_row: one checksum for each entry of a tensor's first axis, so that each can be read
            alone, instead of one for the tensor.
    """
    digests = {}
    for name, value in tensors.items():
        parts = _parts(name, value, tuple(value.shape), by_row)
        digests[name] = [digest_of(label, part) for label, part in parts]
    about = {**metadata, DIGESTS: json.dumps(digests)}
    save_file(dict(tensors), path, metadata=about | {SEAL: _seal(about)})


class CheckedTensors:
    """An open safetensors file, whose tensors are read into memory of their own.

    Attributes:
        metadata: of the file, without the checksums.
        stored: dtype code, shape and place of each tensor.
        has_checksums: False for a file that `save_checked` did not write.
    """

    def __init__(self, file: FileIO, header: Header) -> None:
        self._file, self.stored = file, header.tensors
        self.metadata = dict(header.metadata)
        seal, digests = self.metadata.pop(SEAL, None), self.metadata.get(DIGESTS)
        self.has_checksums = seal is not None or digests is not None
        if self.has_checksums and seal != _seal(self.metadata):
            raise ValueError("its metadata is not what was saved")
        self.metadata.pop(DIGESTS, None)
        self._digests = _parsed(digests) if self.has_checksums else {}
        if self.has_checksums and self._digests.keys() != self.stored.keys():
            raise ValueError("its tensors are not those that were saved")

    def read(self, name: str, *, by_row: bool = False) -> Tensor:
        """A tensor; its checksum is checked if the file has one.

        Args:
            name: of the tensor.
            by_row: as it was saved.

        Raises:
            ValueError: the tensor is not what was saved; the message names it.
            OSError: the file cannot be read, or is cut short.
        """
        stored = self.stored[name]
        value = self._read(stored, stored.offset, stored.shape)
        for place, (label, part) in enumerate(_parts(name, value, stored.shape, by_row)):
            self._check(name, label, part, place)
        return value

    def read_row(self, name: str, row: int) -> Tensor:
        """One entry of a tensor's first axis, of a file saved `by_row`; raises as `read` does."""
        stored = self.stored[name]
        if not 0 <= row < (stored.shape or (0,))[0]:
            raise ValueError(f"{name} of shape {stored.shape} has no row {row}")
        shape = stored.shape[1:]
        step = stored.n_bytes // stored.shape[0]
        value = self._read(stored, stored.offset + row * step, shape)
        self._check(name, _label(name, row, stored.shape), value, row)
        return value

    def _read(self, stored: StoredTensor, offset: int, shape: tuple[int, ...]) -> Tensor:
        if stored.dtype is None:
            raise ValueError(f"dtype {stored.code} is unknown")
        buffer = torch.empty(prod(shape) * stored.dtype.itemsize, dtype=torch.uint8)
        read_into(self._file, offset, buffer)
        return buffer.view(stored.dtype).view(shape)

    def _check(self, name: str, label: str, value: Tensor, place: int) -> None:
        if not self.has_checksums:
            return
        known = self._digests[name]
        if place >= len(known) or known[place] != digest_of(label, value):
            raise ValueError(f"{name} has other values than were saved")


@contextmanager
def open_tensors(path: Path) -> Iterator[CheckedTensors]:
    """Open a safetensors file to read some of its tensors.

    Raises:
        ValueError: the file is damaged.
        OSError: it is missing, or cannot be read.
    """
    if path.exists() and not path.is_file():  # Reading a pipe would block.
        raise OSError("it is not a regular file")
    with path.open("rb", buffering=0) as file:
        yield CheckedTensors(file, read_header(file))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file; raises as `open_tensors` does."""
    with open_tensors(path) as file:
        return {name: file.read(name) for name in file.stored}


def read_into(file: FileIO, offset: int, out: Shaped[Tensor, " n"]) -> None:
    """Read bytes of a file into a tensor's memory.

    Raises:
        OSError: the file cannot be read, or ends too early.
    """
    remaining = out.view(torch.uint8).numpy().data
    file.seek(offset)
    while len(remaining):
        n = file.readinto(remaining)
        if not n:
            raise OSError("it ends too early")
        remaining = remaining[n:]


def digest_of(label: str, value: Shaped[Tensor, "*any"]) -> str:
    """A SHA-256 digest of a tensor's label, dtype, shape and values, as hexadecimal text."""
    digest = hashlib.sha256(f"{label} {value.dtype} {tuple(value.shape)}\n".encode())
    digest.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _parts(
    name: str, value: Tensor, shape: tuple[int, ...], by_row: bool
) -> Iterator[tuple[str, Tensor]]:
    """The parts of a tensor that have a checksum each, with what else the checksum covers."""
    if not by_row:
        yield name, value
        return
    for row, part in enumerate(value):
        yield _label(name, row, shape), part


def _label(name: str, row: int, shape: tuple[int, ...]) -> str:
    return f"{name}[{row} of {shape[0]}]"


def _parsed(digests: str | None) -> dict[str, list[str]]:
    try:
        parsed = {name: list(each) for name, each in json.loads(digests or "").items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("it has no list of checksums") from error
    return parsed


def _seal(metadata: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode()).hexdigest()
