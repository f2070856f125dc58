"""Reads tensors from one safetensors file, which must not change while it is in use."""

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor

from qwen3lab.checkpoints.tensor_names import StoredPart
from qwen3lab.checkpoints.value_range import ValueRange
from qwen3lab.device.host_transfer import bring
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CheckpointError
from qwen3lab.storage.checked_tensors import read_into
from qwen3lab.storage.tensor_header import DTYPES, read_header

CHUNK_BYTES = 2**24
"""Bytes per read where a tensor must change its dtype or its device."""
CHUNK_VALUES = 2**22
"""Values per read where a tensor is compared with another."""
SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""Dtypes of published models, by their code in the file format."""

RAW_DTYPES = {**DTYPES, "F8_E4M3": torch.float8_e4m3fn, "U32": torch.uint32}
"""Dtypes of the packed tensors of quantised models, and of all others."""


@dataclass(frozen=True)
class TensorHeader:
    """Dtype and shape of a tensor in a file, and the file offset of its first byte."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int


class SafetensorsFile:
    """One safetensors file; reading raises an error once the file has changed on disk.

    Raises:
        CheckpointError: the file is missing, truncated or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._checked: set[StoredPart] = set()
        if path.exists() and not path.is_file():  # Reading a pipe would block.
            raise CheckpointError(f"{path} is not a regular file: expected a safetensors file")
        try:
            self._stamp = _file_stamp(path.stat())
            with path.open("rb") as file:
                self.headers = read_header(file).tensors
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{path} is missing, and the index needs it: fetch it again"
            ) from error
        except PermissionError as error:
            raise CheckpointError(
                f"{path} cannot be read ({error.strerror}): check its permissions"
            ) from error
        except OSError as error:
            reason = error.strerror or one_line(str(error), width=200)
            raise CheckpointError(f"{path} cannot be read ({reason})") from error
        except ValueError as error:
            raise CheckpointError(
                f"{path} is truncated or damaged ({one_line(str(error), width=200)}): fetch it "
                "again"
            ) from error

    def header(self, name: str) -> TensorHeader:
        """Dtype, shape and offset of a tensor.

        Raises:
            CheckpointError: the stored dtype is not one of `SAFETENSORS_DTYPES`.
        """
        stored = self.headers[name]
        if stored.code not in SAFETENSORS_DTYPES:
            raise CheckpointError(
                f"{name} in {self.path} is stored as {stored.code}: expected one of "
                f"{', '.join(SAFETENSORS_DTYPES)}, as in a model's unquantised release"
            )
        return TensorHeader(SAFETENSORS_DTYPES[stored.code], stored.shape, stored.offset)

    def stamp(self) -> str:
        """Current name, size and modification time of the file."""
        try:
            _, size, changed = _file_stamp(self.path.stat())
        except OSError as error:
            raise self._read_error(error) from error
        return f"{self.path.name} {size} {changed}"

    def tensor(self, name: str) -> Tensor:
        """A tensor, in newly allocated memory."""
        return self._whole(self.header(name))

    def raw(self, name: str, entry: int | None = None) -> Tensor:
        """A tensor of any dtype, or one entry of its first axis, in newly allocated memory.

        Raises:
            CheckpointError: its dtype is not one of `RAW_DTYPES`.
        """
        stored = self.headers[name]
        if stored.code not in RAW_DTYPES:
            raise CheckpointError(
                f"{one_line(name, width=120)} in {self.path} is stored as {stored.code}, which is "
                "not read: fetch the file again, or load the model's unquantised release"
            )
        kind, shape, offset = RAW_DTYPES[stored.code], stored.shape, stored.offset
        if entry is not None:
            shape = shape[1:]
            offset += entry * math.prod(shape) * kind.itemsize
        return self._whole(TensorHeader(kind, shape, offset))

    def _whole(self, header: TensorHeader) -> Tensor:
        out = torch.empty(header.shape, dtype=header.dtype)
        try:
            with self.path.open("rb", buffering=0) as file:
                self._check(os.fstat(file.fileno()))
                read_into(file, header.offset, out.view(-1))
                self._check(os.fstat(file.fileno()))
        except OSError as error:
            raise self._read_error(error) from error
        return out

    def fill(self, targets: Iterable[tuple[Tensor, StoredPart]]) -> None:
        """Copy tensors of this file into existing tensors.

        A part is checked for NaN and infinity when it is first read, chunk by chunk in memory.
        """
        try:
            with self.path.open("rb", buffering=0) as file:
                self._check(os.fstat(file.fileno()))
                for out, part in targets:
                    self._copy(file, out, part)
                self._check(os.fstat(file.fileno()))
        except OSError as error:
            raise self._read_error(error) from error

    def values(self, name: str) -> Iterator[Shaped[Tensor, " n"]]:
        """The values of a tensor in pieces of `CHUNK_VALUES`, each in newly allocated memory."""
        header = self.header(name)
        try:
            with self.path.open("rb", buffering=0) as file:
                self._check(os.fstat(file.fileno()))
                total, done = torch.Size(header.shape).numel(), 0
                while done < total:
                    piece = torch.empty(min(CHUNK_VALUES, total - done), dtype=header.dtype)
                    read_into(file, header.offset + done * header.dtype.itemsize, piece)
                    yield piece
                    done += len(piece)
                self._check(os.fstat(file.fileno()))
        except OSError as error:
            raise self._read_error(error) from error

    def _copy(self, file: FileIO, out: Tensor, part: StoredPart) -> None:
        """Read a part directly into a tensor, or in chunks through a reused buffer."""
        header, flat = self.header(part.name), out.view(-1)
        offset = header.offset + (part.entry or 0) * len(flat) * header.dtype.itemsize
        found = None if part in self._checked else ValueRange(part.name, str(self.path))
        if out.device.type == "cpu" and out.dtype == header.dtype:
            read_into(file, offset, flat)
            if found:
                found.add(flat)
        else:
            chunks = flat.split(CHUNK_BYTES // header.dtype.itemsize)
            buffer = torch.empty(len(chunks[0]), dtype=header.dtype, pin_memory=out.is_cuda)
            for chunk in chunks:
                stored = buffer[: len(chunk)]
                read_into(file, offset, stored)
                if found:
                    found.add(stored)
                bring(stored, chunk)
                offset += stored.nbytes
        if found:
            found.warn_beyond(out.dtype)
            self._checked.add(part)

    def _check(self, now: os.stat_result) -> None:
        if _file_stamp(now) != self._stamp:
            raise CheckpointError(
                f"{self.path} has changed since the model was loaded from it: load the model again"
            )

    def _read_error(self, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"{self.path} can no longer be read ({error}): check that the disk is mounted and the "
            "file is complete, and run again"
        )


def _file_stamp(stat: os.stat_result) -> tuple[int, int, int]:
    """Inode, size and modification time; they differ once the file is replaced or written to."""
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
