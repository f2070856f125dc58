"""Reads tensors from the safetensors files of a folder, or from a model in memory."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from qwen3lab.checkpoints.safetensors_file import SafetensorsFile, TensorHeader
from qwen3lab.checkpoints.tensor_names import StoredPart
from qwen3lab.errors import CheckpointError

INDEX = "model.safetensors.index.json"


class CheckpointReader:
    """Reads the tensors of a checkpoint folder by published name.

    The constructor reads the index and the file headers; tensors are read on request.

    Raises:
        CheckpointError: no safetensors files, an index that is damaged or points outside the
            folder, a shard that is missing or truncated.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[Path, SafetensorsFile] = {}
        self.file_of = self._find_files()

    def names(self) -> set[str]:
        """Published names of all tensors."""
        return set(self.file_of)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return self._header(name).shape

    def tensor(self, name: str) -> Tensor:
        """A tensor, memory-mapped from its file.

        Raises:
            CheckpointError: the file has changed.
        """
        return self._file(self.file_of[name]).tensor(name)

    def dtype(self, name: str) -> torch.dtype:
        """The dtype in which a tensor is stored.

        Raises:
            CheckpointError: there is no such tensor, or it is not stored as a float type.
        """
        if name not in self.file_of:
            raise CheckpointError(f"{name} is missing from {self.folder}: fetch the model again")
        return self._header(name).dtype

    def fill(self, targets: Iterable[tuple[Tensor, StoredPart]]) -> None:
        """Copy stored tensors into existing ones of any device and dtype.

        Args:
            targets: pairs of a tensor to fill and the stored part that it receives.

        Raises:
            CheckpointError: a file is missing or has changed since it was opened.
        """
        by_file: dict[Path, list[tuple[Tensor, StoredPart]]] = {}
        for out, part in targets:
            by_file.setdefault(self.file_of[part.name], []).append((out, part))
        for path, pairs in by_file.items():
            self._file(path).fill(pairs)

    def file_stamps(self) -> list[str]:
        """Current name, size and modification time of every file.

        Raises:
            CheckpointError: a file is missing.
        """
        return [self._file(path).stamp() for path in sorted(set(self.file_of.values()))]

    def _find_files(self) -> dict[str, Path]:
        index = self.folder / INDEX
        if index.exists():
            return self._read_index(index)
        single = self.folder / "model.safetensors"
        if single.exists():
            return dict.fromkeys(self._file(single).headers, single)
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
        try:
            weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            shards = {str(name): str(file) for name, file in weight_map.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(
                f"{index} is not a valid index ({error}): fetch it again"
            ) from error
        for name, file in shards.items():
            path = PurePosixPath(file)
            if len(path.parts) != 1 or path.name in ("", "..") or "\\" in file:
                raise CheckpointError(
                    f"{index.name} maps {name} to {file!r}, outside the model's folder: "
                    "expected a file in the folder"
                )
            if path.suffix != ".safetensors":
                raise CheckpointError(
                    f"{index.name} maps {name} to {file!r}: expected a safetensors file"
                )
        file_of = {name: self.folder / file for name, file in shards.items()}
        self._check_shards(file_of, index)
        return file_of

    def _check_shards(self, file_of: dict[str, Path], index: Path) -> None:
        """Check that every shard holds exactly the tensors that the index lists for it."""
        stored = {path: set(self._file(path).headers) for path in sorted(set(file_of.values()))}
        for name, path in file_of.items():
            if name not in stored[path]:
                raise CheckpointError(
                    f"{index.name} maps {name} to {path.name}, which does not hold it: fetch the "
                    "model again"
                )
        for path, names in stored.items():
            if surplus := names - file_of.keys():
                raise CheckpointError(
                    f"{path.name} holds {sorted(surplus)[0]}, which {index.name} does not list: "
                    "fetch the model again"
                )

    def _header(self, name: str) -> "TensorHeader":
        return self._file(self.file_of[name]).header(name)

    def _file(self, path: Path) -> "SafetensorsFile":
        if path not in self._files:
            self._files[path] = SafetensorsFile(path)
        return self._files[path]


class TensorsInMemory:
    """The tensors of a model in memory; `tensor` returns copies."""

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

    def fill(self, targets: Iterable[tuple[Tensor, StoredPart]]) -> None:
        """Copy stored tensors into existing ones."""
        for out, part in targets:
            stored = self._tensors[part.name]
            out.copy_((stored if part.entry is None else stored[part.entry]).view_as(out))


TensorSource = CheckpointReader | TensorsInMemory
