"""Where tensors come from: safetensors files in a folder, or a model in memory."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from torch import Tensor

from qwen3lab.checkpoints.tensor_names import StoredPart
from qwen3lab.device.host_transfer import bring
from qwen3lab.errors import CheckpointError

INDEX = "model.safetensors.index.json"
STRETCH = 2**24
"""Bytes of a file that are read together where they must become another dtype, or go elsewhere."""
STORED = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""What a published model's numbers are, in the words of the file format."""


class CheckpointReader:
    """The tensors of a checkpoint folder by published name, read when asked for.

    Raises:
        CheckpointError: no safetensors files, an index that is damaged or leads out of the
            folder, a shard that is missing or cut short.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[Path, _File] = {}
        self.where = self._index()

    def names(self) -> set[str]:
        """Published names of all tensors."""
        return set(self.where)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return self._entry(name).shape

    def tensor(self, name: str) -> Tensor:
        """A tensor, mapped from its file.

        Raises:
            CheckpointError: the file has changed.
        """
        return self._file(self.where[name]).tensor(name)

    def dtype(self, name: str) -> torch.dtype:
        """The dtype in which a tensor is stored.

        Raises:
            CheckpointError: there is no such tensor, or it is stored as no plain number.
        """
        if name not in self.where:
            raise CheckpointError(f"{name} is missing from {self.folder}: fetch the model again")
        return self._entry(name).dtype

    def fill(self, wanted: Iterable[tuple[Tensor, StoredPart]]) -> None:
        """Copy tensors into place, which may be on a GPU, and of another dtype.

        Raises:
            CheckpointError: a file is missing by now, or has changed.
        """
        by_file: dict[Path, list[tuple[Tensor, StoredPart]]] = {}
        for out, part in wanted:
            by_file.setdefault(self.where[part.name], []).append((out, part))
        for path, pieces in by_file.items():
            self._file(path).fill(pieces)

    def marks(self) -> list[str]:
        """Name, size and time of change of every file, as they are now.

        Raises:
            CheckpointError: a file is missing by now.
        """
        return [self._file(path).mark() for path in sorted(set(self.where.values()))]

    def _index(self) -> dict[str, Path]:
        index = self.folder / INDEX
        if index.exists():
            return self._sharded(index)
        single = self.folder / "model.safetensors"
        if single.exists():
            return dict.fromkeys(self._file(single).entries, single)
        pickles = [p for s in ("*.bin", "*.pt", "*.pth") for p in sorted(self.folder.glob(s))]
        if pickles:
            raise CheckpointError(
                f"{self.folder} offers {pickles[0].name}, a pickle file, which can run code when "
                "it is opened: convert the model to safetensors"
            )
        raise CheckpointError(
            f"{self.folder} has no model.safetensors and no model.safetensors.index.json: "
            "expected a folder with the weights of a Qwen3"
        )

    def _sharded(self, index: Path) -> dict[str, Path]:
        try:
            listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            shards = {str(name): str(file) for name, file in listed.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(
                f"{index} is not a valid index ({error}): fetch it again"
            ) from error
        for name, file in shards.items():
            path = PurePosixPath(file)
            if len(path.parts) != 1 or path.name in ("", "..") or "\\" in file:
                raise CheckpointError(
                    f"{index.name} puts {name} into {file!r}, outside of the model's folder: "
                    "such an index is not followed"
                )
            if path.suffix != ".safetensors":
                raise CheckpointError(
                    f"{index.name} puts {name} into {file!r}: expected a safetensors file"
                )
        return self._checked({name: self.folder / file for name, file in shards.items()}, index)

    def _checked(self, where: dict[str, Path], index: Path) -> dict[str, Path]:
        """Every shard has just what the index says."""
        held = {path: set(self._file(path).entries) for path in sorted(set(where.values()))}
        for name, path in where.items():
            if name not in held[path]:
                raise CheckpointError(f"{index.name} puts {name} into {path.name}, which lacks it")
        for path, names in held.items():
            if surplus := names - where.keys():
                raise CheckpointError(
                    f"{path.name} holds {sorted(surplus)[0]}, which {index.name} does not list"
                )
        return where

    def _entry(self, name: str) -> "Entry":
        return self._file(self.where[name]).entry(name)

    def _file(self, path: Path) -> "_File":
        if path not in self._files:
            self._files[path] = _File(path)
        return self._files[path]


@dataclass(frozen=True)
class Entry:
    """A tensor in a file: how it is stored, and the byte where it begins."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int


class _File:
    """A file of tensors, which must stay as it is for as long as it is read from."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._mark = _mark(path.stat())
            # Whose own check of the header is thorough.
            self._mapped: Any = safe_open(path, framework="pt").__enter__()
            self.entries = _entries(path)
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{path} is missing, and the index needs it: fetch it again"
            ) from error
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(
                f"{path} is cut short or damaged ({error}): fetch it again"
            ) from error

    def entry(self, name: str) -> Entry:
        """Where a tensor is."""
        dtype, shape, begin = self.entries[name]
        if dtype not in STORED:
            raise CheckpointError(
                f"{name} in {self.path} is stored as {dtype}: expected one of {', '.join(STORED)}, "
                "as in a model's unquantised release"
            )
        return Entry(STORED[dtype], tuple(shape), begin)

    def mark(self) -> str:
        """Its name, size and time of change, as they are now."""
        try:
            _, size, changed = _mark(self.path.stat())
        except OSError as error:
            raise self._unreadable(error) from error
        return f"{self.path.name} {size} {changed}"

    def tensor(self, name: str) -> Tensor:
        """A tensor, mapped."""
        try:
            self._check(self.path.stat())
            return self._mapped.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise self._unreadable(error) from error

    def fill(self, wanted: Iterable[tuple[Tensor, StoredPart]]) -> None:
        """Copy tensors of this file into place."""
        try:
            with self.path.open("rb", buffering=0) as file:
                self._check(os.fstat(file.fileno()))
                for out, part in wanted:
                    self._copy(file, out, part)
                self._check(os.fstat(file.fileno()))
        except OSError as error:
            raise self._unreadable(error) from error

    def _copy(self, file: FileIO, out: Tensor, part: StoredPart) -> None:
        """Read a part into a tensor's own memory, or by way of some that is used again."""
        entry, flat = self.entry(part.name), out.view(-1)
        at = entry.begin + (part.entry or 0) * len(flat) * entry.dtype.itemsize
        if out.device.type == "cpu" and out.dtype == entry.dtype:
            _read(file, at, flat)
            return
        pieces = flat.split(STRETCH // entry.dtype.itemsize)
        room = torch.empty(len(pieces[0]), dtype=entry.dtype, pin_memory=out.is_cuda)
        for piece in pieces:
            stored = room[: len(piece)]
            _read(file, at, stored)
            bring(stored, piece)
            at += stored.nbytes

    def _check(self, now: os.stat_result) -> None:
        if _mark(now) != self._mark:
            raise CheckpointError(
                f"{self.path} has changed since the model was loaded from it: load the model again"
            )

    def _unreadable(self, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"{self.path} cannot be read any more ({error}): see that the disk is there and the "
            "file whole, and run again"
        )


def _mark(found: os.stat_result) -> tuple[int, int, int]:
    """What tells a file from another that takes its place."""
    return found.st_ino, found.st_size, found.st_mtime_ns


def _entries(path: Path) -> dict[str, tuple[str, list[int], int]]:
    """How each tensor of a file is stored, its shape, and the byte where it begins.

    (A header has eight bytes that give its length, then JSON. `safe_open` does not tell offsets.)
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return {
        name: (found["dtype"], found["shape"], 8 + length + found["data_offsets"][0])
        for name, found in header.items()
    }


def _read(file: FileIO, at: int, into: Shaped[Tensor, " n"]) -> None:
    """Read bytes of a file into a tensor's memory.

    (Not mapped: where a file is cut short meanwhile, reading what is mapped ends the process.)
    """
    left = into.view(torch.uint8).numpy().data
    file.seek(at)
    while len(left):
        n = file.readinto(left)
        if not n:
            raise OSError("it ends too early")
        left = left[n:]


class TensorsInMemory:
    """The tensors of a model in memory; what it gives are copies."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def names(self) -> set[str]:
        """Names of all tensors."""
        return set(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(self._tensors[name].shape)

    def tensor(self, name: str) -> Tensor:
        """A copy of a tensor."""
        return self._tensors[name].detach().clone()

    def dtype(self, name: str) -> torch.dtype:
        """The dtype of a tensor."""
        return self._tensors[name].dtype

    def fill(self, wanted: Iterable[tuple[Tensor, StoredPart]]) -> None:
        """Copy tensors into place."""
        for out, part in wanted:
            whole = self._tensors[part.name]
            out.copy_((whole if part.entry is None else whole[part.entry]).view_as(out))


TensorSource = CheckpointReader | TensorsInMemory
