"""Reads the matrices of a quantised checkpoint as if they were stored as floats."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from qwen3lab.checkpoints.formats.packed_format import PackedFormat, ReadPart
from qwen3lab.checkpoints.safetensors_file import CHUNK_VALUES
from qwen3lab.checkpoints.safetensors_reader import CheckpointReader
from qwen3lab.checkpoints.tensor_names import OUTSIDE_BLOCKS, TIED_UNEMBEDDING, StoredPart
from qwen3lab.checkpoints.value_range import ValueRange
from qwen3lab.device.host_transfer import bring
from qwen3lab.errors import CheckpointError
from qwen3lab.storage.tensor_header import StoredTensor


class DecodedReader:
    """The tensors of a checkpoint, of which some matrices are decoded when they are read.

    One matrix at a time is in memory beside its packed tensors. What is not packed, such as norms
    and embeddings, is read as it is.

    Args:
        reader: of the stored tensors.
        format: of the packed ones.

    Raises:
        CheckpointError: a packed module lacks a tensor, or its tensors do not belong together.
    """

    def __init__(self, reader: CheckpointReader, format: PackedFormat) -> None:
        self.reader, self.format, self.folder = reader, format, reader.folder
        self._modules = _packed_modules(reader, format)
        self._shapes = {
            module: format.shape(module, stored, self._read_part(module))
            for module, stored in self._modules.items()
        }
        packed = {f"{m}.{part}" for m, stored in self._modules.items() for part in stored}
        self._plain = reader.names() - packed
        self._dtype = self._compute_dtype()

    @property
    def file_of(self) -> dict[str, Path]:
        """The file of each stored tensor."""
        return self.reader.file_of

    def names(self) -> set[str]:
        """Published names of all tensors, as of the unquantised release."""
        return self._plain | {f"{module}.weight" for module in self._modules}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        module = self._module(name)
        return self.reader.shape(name) if module is None else self._shapes[module]

    def dtype(self, name: str) -> torch.dtype:
        """The dtype in which a tensor is stored; of a packed one, that of the embedding.

        Raises:
            CheckpointError: there is no such tensor, or it is not stored as a float type.
        """
        return self.reader.dtype(name) if self._module(name) is None else self._dtype

    def tensor(self, name: str) -> Tensor:
        """A tensor, in newly allocated memory; a decoded one in float32.

        Raises:
            CheckpointError: the file has changed, or a packed tensor cannot be decoded.
        """
        module = self._module(name)
        return self.reader.tensor(name) if module is None else self._decoded(module)

    def fill(self, targets: Iterable[tuple[Tensor, StoredPart]]) -> None:
        """Copy tensors into existing ones of any device and dtype.

        Args:
            targets: pairs of a tensor to fill and the part that it receives.

        Raises:
            CheckpointError: a file is missing or has changed, a packed tensor cannot be decoded, or
                a value is NaN or infinite.
        """
        plain: list[tuple[Tensor, StoredPart]] = []
        for out, part in targets:
            module = self._module(part.name)
            if module is None:
                plain.append((out, part))
                continue
            decoded = self._decoded(module)
            found = ValueRange(part.name, str(self.reader.folder))
            found.add(decoded)
            found.warn_beyond(out.dtype)
            bring(decoded.view_as(out), out)
        self.reader.fill(plain)

    def values(self, name: str) -> Iterator[Tensor]:
        """The values of a tensor, in flat pieces.

        Raises:
            CheckpointError: the file has changed, or a packed tensor cannot be decoded.
        """
        module = self._module(name)
        if module is None:
            return self.reader.values(name)
        return iter(self._decoded(module).flatten().split(CHUNK_VALUES))

    def file_stamps(self) -> list[str]:
        """Current name, size and modification time of every file.

        Raises:
            CheckpointError: a file is missing.
        """
        return self.reader.file_stamps()

    def _module(self, name: str) -> str | None:
        """The packed module whose matrix has this name, if there is one."""
        module = name.removesuffix(".weight")
        return module if module in self._modules and name.endswith(".weight") else None

    def _read_part(self, module: str) -> ReadPart:
        return lambda part: self.reader.raw(f"{module}.{part}")

    def _decoded(self, module: str) -> Tensor:
        parts = {part: self.reader.raw(f"{module}.{part}") for part in self._modules[module]}
        decoded = self.format.decode(module, parts)
        if tuple(decoded.shape) != self._shapes[module]:
            raise CheckpointError(f"{module} was decoded to another shape than its tensors have")
        return decoded

    def _compute_dtype(self) -> torch.dtype:
        """The dtype of the embedding, or of the tied unembedding."""
        for name in (OUTSIDE_BLOCKS["embed.weight"], TIED_UNEMBEDDING):
            if name in self._plain:
                return self.reader.dtype(name)
        return torch.float32


def _packed_modules(
    reader: CheckpointReader, format: PackedFormat
) -> dict[str, dict[str, StoredTensor]]:
    """The headers of each packed module's parts, by module and end of the name."""
    held: dict[str, dict[str, StoredTensor]] = {}
    for name in sorted(reader.names()):
        # A part's name can end like another one's: `weight.absmax` and `absmax`.
        part = next((p for p in format.parts if name.endswith(f".{p}")), None)
        if part is not None:
            held.setdefault(name.removesuffix(f".{part}"), {})[part] = reader.raw_header(name)
    modules = {module: parts for module, parts in held.items() if format.is_packed(parts)}
    if not modules:
        raise CheckpointError(
            f"config.json in {reader.folder} gives quant_method {format.method}, but no tensor is "
            "stored so: check that config.json and weights belong together"
        )
    return modules
