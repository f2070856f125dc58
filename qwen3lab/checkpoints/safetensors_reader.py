"""Reads tensors from the safetensors files of a folder, or from a model in memory."""

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from qwen3lab.checkpoints.safetensors_file import (
    CHUNK_VALUES,
    SAFETENSORS_DTYPES,
    SafetensorsFile,
    TensorHeader,
)
from qwen3lab.checkpoints.tensor_names import StoredPart, is_base_model, stored_names
from qwen3lab.checkpoints.value_range import ValueRange
from qwen3lab.checkpoints.wrapper_names import without_wrappers
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CheckpointError
from qwen3lab.storage.tensor_header import StoredTensor

IN_MEMORY = "the model in memory"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_NAME = 255
"""Characters of a file's name, on the usual file systems."""


class CheckpointReader:
    """Reads the tensors of a checkpoint folder by published name.

    The constructor reads the index and the file headers; tensors are read on request. Where a
    folder holds both model.safetensors and an index, the single file is read, as in `transformers`.
    Names without the prefix `model.`, as of embedding models, get it. Prefixes that training tools
    leave are removed where all names have them.

    Raises:
        CheckpointError: no safetensors files, an index that is damaged or points outside the
            folder, a shard that is missing or truncated.

    Warns:
        UserWarning: the folder also holds an index that lists other files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[Path, SafetensorsFile] = {}
        files = self._find_files()
        unwrapped = without_wrappers(files)
        self._is_base_model = is_base_model(unwrapped)
        self._stored = {name: unwrapped[n] for name, n in stored_names(unwrapped).items()}
        self.file_of = {name: files[stored] for name, stored in self._stored.items()}

    def names(self) -> set[str]:
        """Published names of all tensors."""
        return set(self.file_of)

    def is_base_model(self) -> bool:
        """True if names were stored without `model.`: the model was saved without any head."""
        return self._is_base_model

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return self._header(name).shape

    def tensor(self, name: str) -> Tensor:
        """A tensor, in newly allocated memory.

        Raises:
            CheckpointError: the file has changed.
        """
        return self._file(self.file_of[name]).tensor(self._stored[name])

    def dtype(self, name: str) -> torch.dtype:
        """The dtype in which a tensor is stored.

        Raises:
            CheckpointError: there is no such tensor, or it is not stored as a float type.
        """
        if name not in self.file_of:
            raise CheckpointError(f"{name} is missing from {self.folder}")
        return self._header(name).dtype

    def raw(self, name: str, entry: int | None = None) -> Tensor:
        """A tensor of any dtype, such as packed integers, or one entry of its first axis.

        Raises:
            CheckpointError: the file has changed, or its dtype has no counterpart in torch.
        """
        return self._file(self.file_of[name]).raw(self._stored[name], entry)

    def raw_header(self, name: str) -> StoredTensor:
        """Dtype code and shape of a tensor of any dtype."""
        return self._file(self.file_of[name]).headers[self._stored[name]]

    def fill(self, targets: Iterable[tuple[Tensor, StoredPart]]) -> None:
        """Copy stored tensors into existing ones of any device and dtype.

        Args:
            targets: pairs of a tensor to fill and the stored part that it receives.

        Raises:
            CheckpointError: a file is missing or has changed since it was opened.
        """
        by_file: dict[Path, list[tuple[Tensor, StoredPart]]] = {}
        for out, part in targets:
            stored = part._replace(name=self._stored[part.name])
            by_file.setdefault(self.file_of[part.name], []).append((out, stored))
        for path, pairs in by_file.items():
            self._file(path).fill(pairs)

    def values(self, name: str) -> Iterator[Tensor]:
        """The values of a tensor, in flat pieces.

        Raises:
            CheckpointError: the file has changed.
        """
        return self._file(self.file_of[name]).values(self._stored[name])

    def file_stamps(self) -> list[str]:
        """Current name, size and modification time of every file.

        Raises:
            CheckpointError: a file is missing.
        """
        return [self._file(path).stamp() for path in sorted(set(self.file_of.values()))]

    def _find_files(self) -> dict[str, Path]:
        """The file of each tensor, by stored name."""
        index, single = self.folder / INDEX, self.folder / SINGLE
        if single.exists():
            if index.exists():
                _warn_of_index(index)
            return dict.fromkeys(self._file(single).headers, single)
        if index.exists():
            return self._read_index(index)
        pickles = [p for s in ("*.bin", "*.pt", "*.pth") for p in sorted(self.folder.glob(s))]
        if pickles:
            raise CheckpointError(
                f"{self.folder} holds {pickles[0].name}, a pickle file, which can run code when "
                "it is opened: convert the model to safetensors"
            )
        raise CheckpointError(
            f"{self.folder} has no model.safetensors and no model.safetensors.index.json: "
            "expected a folder with the weights of a Qwen3"
        )

    def _read_index(self, index: Path) -> dict[str, Path]:
        shards = _weight_map(index)
        for name, file in shards.items():
            path = PurePosixPath(file)
            maps = f"{index} maps {one_line(name, width=120)} to {one_line(repr(file), width=120)}"
            if len(path.parts) != 1 or path.name in ("", "..") or "\\" in file:
                raise CheckpointError(
                    f"{maps}, outside the model's folder: expected a file in the folder"
                )
            if len(file) > MAX_NAME or not file.isprintable():
                raise CheckpointError(f"{maps}: expected the plain name of a file")
            if path.suffix != ".safetensors":
                raise CheckpointError(f"{maps}: expected a safetensors file")
        file_of = {name: self.folder / file for name, file in shards.items()}
        self._check_shards(file_of, index)
        return file_of

    def _check_shards(self, file_of: dict[str, Path], index: Path) -> None:
        """Check that every shard holds exactly the tensors that the index lists for it."""
        stored = {path: set(self._file(path).headers) for path in sorted(set(file_of.values()))}
        for name, path in file_of.items():
            if name not in stored[path]:
                raise CheckpointError(
                    f"{index} maps {one_line(name, width=120)} to {path.name}, which does not hold "
                    "it: index and shards are of different models, so fetch them together"
                )
        for path, names in stored.items():
            if twice := {name for name in names if file_of.get(name, path) != path}:
                raise CheckpointError(
                    f"{path} holds {one_line(min(twice), width=120)}, which {index.name} maps to "
                    f"{file_of[min(twice)].name}: the model has the tensor twice, so fetch index "
                    "and shards together"
                )
            if surplus := names - file_of.keys():
                raise CheckpointError(
                    f"{path} holds {one_line(min(surplus), width=120)}, which {index.name} does "
                    "not list: index and shards are of different models, so fetch them together"
                )

    def _header(self, name: str) -> TensorHeader:
        return self._file(self.file_of[name]).header(self._stored[name])

    def _file(self, path: Path) -> SafetensorsFile:
        if path not in self._files:
            self._files[path] = SafetensorsFile(path)
        return self._files[path]


def _weight_map(index: Path) -> dict[str, str]:
    """File names by tensor name, as an index lists them."""
    if not index.is_file():  # Reading a pipe would block.
        raise CheckpointError(f"{index} is not a regular file: expected an index of JSON")
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {str(name): str(file) for name, file in weight_map.items()}
    except OSError as error:
        raise CheckpointError(f"{index} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = one_line(str(error), width=200)
        raise CheckpointError(f"{index} is not a valid index ({reason}): fetch it again") from error


def _warn_of_index(index: Path) -> None:
    """Warn of an index beside a single file, unless it lists just that file."""
    try:
        others = set(_weight_map(index).values()) - {SINGLE}
    except CheckpointError:
        others = {""}
    if others:
        warnings.warn(
            f"{index.parent} holds {SINGLE}, which is read, as in transformers; {INDEX} beside it "
            "lists other files and is not read: remove the one that is out of date",
            stacklevel=2,
        )


class TensorsInMemory:
    """The tensors of a model in memory; `tensor` returns copies."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = {name: tensors[stored] for name, stored in stored_names(tensors).items()}
        self._is_base_model = is_base_model(tensors)

    def names(self) -> set[str]:
        """Names of all tensors."""
        return set(self._tensors)

    def is_base_model(self) -> bool:
        """True if names have no `model.`: of a model without any head."""
        return self._is_base_model

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(self._tensors[name].shape)

    def tensor(self, name: str) -> Tensor:
        """A copy of a tensor."""
        return self._tensors[name].detach().clone()

    def dtype(self, name: str) -> torch.dtype:
        """The dtype of a tensor.

        Raises:
            CheckpointError: there is no such tensor, or it is not of a float dtype, or not loaded.
        """
        if name not in self._tensors:
            raise CheckpointError(f"{name} is missing from {IN_MEMORY}")
        found = self._tensors[name]
        if type(found) is not Tensor:  # torchao and distributed tensors are subclasses.
            raise CheckpointError(
                f"{name} in {IN_MEMORY} is a {type(found).__name__}, of a quantised or a "
                "distributed model: load the unquantised model whole"
            )
        if found.is_meta:
            raise CheckpointError(
                f"{name} in {IN_MEMORY} is on the meta device or offloaded, without values: load "
                "the model into memory"
            )
        if found.dtype not in SAFETENSORS_DTYPES.values():
            raise CheckpointError(
                f"{name} in {IN_MEMORY} is quantised ({found.dtype}): load the unquantised model"
            )
        return found.dtype

    def values(self, name: str) -> Iterator[Tensor]:
        """The values of a tensor, in flat pieces of a file's size."""
        return iter(self._tensors[name].detach().flatten().split(CHUNK_VALUES))

    def fill(self, targets: Iterable[tuple[Tensor, StoredPart]]) -> None:
        """Copy stored tensors into existing ones.

        Raises:
            CheckpointError: a value is NaN or infinite.
        """
        for out, part in targets:
            stored = self._tensors[part.name].detach()
            stored = stored if part.entry is None else stored[part.entry]
            found = ValueRange(part.name, IN_MEMORY)
            found.add(stored)
            found.warn_beyond(out.dtype)
            out.copy_(stored.view_as(out))


@runtime_checkable
class TensorSource(Protocol):
    """Tensors of a checkpoint by published name: a folder's, decoded ones, or a model's."""

    def names(self) -> set[str]: ...

    def is_base_model(self) -> bool: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def tensor(self, name: str) -> Tensor: ...

    def dtype(self, name: str) -> torch.dtype: ...

    def values(self, name: str) -> Iterator[Tensor]: ...

    def fill(self, targets: Iterable[tuple[Tensor, StoredPart]]) -> None: ...


@runtime_checkable
class StoredTensors(TensorSource, Protocol):
    """Tensors of files, which can be read again."""

    def file_stamps(self) -> list[str]: ...
