"""Where tensors come from: safetensors files in a folder, or a model in memory."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from qwen3lab.offload import bring
from qwen3lab.published import Part

MAPPED = 2**27
"""Bytes of a file that are mapped at a time while it is copied: they count as memory in use."""


class CheckpointError(ValueError):
    """Weights that cannot be loaded; the message names the file and the tensor."""


class Weights:
    """The tensors of a checkpoint folder by published name, read when asked for.

    Raises:
        CheckpointError: no safetensors files, an index that is damaged or leads out of the
            folder, a shard that is missing or cut short.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[Path, Any] = {}
        self.where = self._index()

    def names(self) -> set[str]:
        """Published names of all tensors."""
        return set(self.where)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return tuple(self._file(self.where[name]).get_slice(name).get_shape())

    def tensor(self, name: str) -> Tensor:
        """A tensor, mapped from its file."""
        try:
            return self._file(self.where[name]).get_tensor(name)
        except SafetensorError as error:
            raise CheckpointError(
                f"{name} cannot be read from {self.where[name]} ({error}): fetch the file again"
            ) from error

    def dtype(self, name: str) -> torch.dtype:
        """The dtype in which a tensor is stored."""
        return self.tensor(name).dtype

    def fill(self, wanted: Iterable[tuple[Tensor, Part]]) -> None:
        """Copy tensors into place.

        Files are opened for just that long: what is mapped of them counts as memory in use until
        they are closed.

        Raises:
            CheckpointError: a file is missing by now, or has been cut short.
        """
        by_file: dict[Path, list[tuple[Tensor, Part]]] = {}
        for out, part in wanted:
            by_file.setdefault(self.where[part.name], []).append((out, part))
        for path, pieces in by_file.items():
            stretches = [stretch for out, part in pieces for stretch in _stretches(out, part)]
            while stretches:
                stretches = _filled(path, stretches)

    def _index(self) -> dict[str, Path]:
        index = self.folder / "model.safetensors.index.json"
        if index.exists():
            return self._sharded(index)
        single = self.folder / "model.safetensors"
        if single.exists():
            return dict.fromkeys(self._file(single).keys(), single)
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
        except (ValueError, KeyError, TypeError, AttributeError) as error:
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
        held = {path: set(self._file(path).keys()) for path in sorted(set(where.values()))}
        for name, path in where.items():
            if name not in held[path]:
                raise CheckpointError(f"{index.name} puts {name} into {path.name}, which lacks it")
        for path, names in held.items():
            if surplus := names - where.keys():
                raise CheckpointError(
                    f"{path.name} holds {sorted(surplus)[0]}, which {index.name} does not list"
                )
        return where

    def _file(self, path: Path):
        if path not in self._files:
            try:
                self._files[path] = safe_open(path, framework="pt").__enter__()
            except FileNotFoundError as error:
                raise CheckpointError(
                    f"{path} is missing, and the index needs it: fetch it again"
                ) from error
            except (SafetensorError, OSError) as error:
                raise CheckpointError(
                    f"{path} is cut short or damaged ({error}): fetch it again"
                ) from error
        return self._files[path]


Stretch = tuple[Tensor, str, tuple[int | slice, ...]]
"""Where a part of a published tensor goes, its name, and which part it is."""


def _stretches(out: Tensor, part: Part) -> Iterator[Stretch]:
    """A part, some rows at a time."""
    first = () if part.entry is None else (part.entry,)
    per_row = max(1, out[:1].numel()) * torch.float32.itemsize
    for rows in torch.arange(len(out)).split(max(1, MAPPED // per_row)):
        start, stop = int(rows[0]), int(rows[-1]) + 1
        yield out[start:stop], part.name, (*first, slice(start, stop))


def _filled(path: Path, stretches: list[Stretch]) -> list[Stretch]:
    """Copy stretches until as much of the file is mapped as may be; gives those that are left."""
    mapped = 0
    try:
        with safe_open(path, framework="pt") as file:
            for done, (out, name, rows) in enumerate(stretches):
                if mapped > MAPPED:
                    return stretches[done:]
                bring(file.get_slice(name)[rows], out)
                mapped += out.nbytes
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read any more ({error}): see that the disk is there and the file "
            "whole, and run again"
        ) from error
    return []


class InMemory:
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


Source = Weights | InMemory
