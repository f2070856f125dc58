"""Where tensors come from: safetensors files in a folder, or a model in memory."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor


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
