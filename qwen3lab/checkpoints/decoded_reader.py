"""Reads the matrices of a quantised checkpoint as if they were stored as floats."""

from functools import partial

import torch
from torch import Tensor

from qwen3lab.checkpoints.computed_tensors import ComputedTensors
from qwen3lab.checkpoints.formats.packed_format import PackedFormat, ReadPart
from qwen3lab.checkpoints.packed_tensors import PackedTensor
from qwen3lab.checkpoints.safetensors_reader import CheckpointReader
from qwen3lab.checkpoints.tensor_names import OUTSIDE_BLOCKS, TIED_UNEMBEDDING, StoredPart
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CheckpointError
from qwen3lab.storage.tensor_header import StoredTensor

MAX_NAME = 200
"""Characters of a tensor's name that errors quote whole."""


class DecodedReader(ComputedTensors):
    """The tensors of a quantised checkpoint, whose packed matrices are decoded.

    What is not packed, such as norms and embeddings, is read as it is.

    Args:
        reader: of the stored tensors.
        format: of the packed ones.

    Raises:
        CheckpointError: a packed module lacks a tensor, or its tensors do not belong together.
    """

    def __init__(self, reader: CheckpointReader, format: PackedFormat) -> None:
        super().__init__(reader, str(reader.folder))
        self.reader, self.format = reader, format
        self._modules = _packed_modules(reader, format)
        self._shapes = {
            module: format.shape(module, stored, self._read_part(module))
            for module, stored in self._modules.items()
        }
        packed = {f"{m}.{part}" for m, stored in self._modules.items() for part in stored}
        self._plain = reader.names() - packed
        self._dtype = self._compute_dtype()

    def names(self) -> set[str]:
        return self._plain | {f"{module}.weight" for module in self._modules}

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[_module(name)] if self.is_computed(name) else self.reader.shape(name)

    def dtype(self, name: str) -> torch.dtype:
        return self._dtype if self.is_computed(name) else self.reader.dtype(name)

    def is_computed(self, name: str) -> bool:
        return name.endswith(".weight") and _module(name) in self._modules

    def compute(self, name: str) -> Tensor:
        return self.compute_part(StoredPart(name))

    def compute_part(self, part: StoredPart) -> Tensor:
        found = self.packed(part)
        assert found is not None
        return found.decode(found.parts)

    def packed(self, part: StoredPart) -> PackedTensor | None:
        """A packed matrix as it is stored; None for one that is stored as floats."""
        module = _module(part.name)
        if not self.is_computed(part.name):
            return None
        names = self._modules[module]
        held = {each: self.reader.raw(f"{module}.{each}", part.entry) for each in names}
        return PackedTensor(
            held, partial(self.format.decode, module), partial(self.format.grouped, module)
        )

    def packed_bytes(self, name: str) -> int | None:
        """Bytes of a packed matrix, or stack; None for one that is stored as floats."""
        if not self.is_computed(name):
            return None
        return sum(header.n_bytes for header in self._modules[_module(name)].values())

    @property
    def described(self) -> str:
        """Format and settings."""
        return self.format.described

    def file_stamps(self) -> list[str]:
        return self.reader.file_stamps()

    def _read_part(self, module: str) -> ReadPart:
        return lambda part: self.reader.raw(f"{module}.{part}")

    def _compute_dtype(self) -> torch.dtype:
        """The dtype of the embedding, or of the tied unembedding, or of its scales."""
        for name in (OUTSIDE_BLOCKS["embed.weight"], TIED_UNEMBEDDING):
            if name in self._plain:
                return self.reader.dtype(name)
            if self.format.scale_part and _module(name) in self._modules:
                return self.reader.dtype(f"{_module(name)}.{self.format.scale_part}")
        return torch.float32


def _module(name: str) -> str:
    return name.removesuffix(".weight")


def _packed_modules(
    reader: CheckpointReader, format: PackedFormat
) -> dict[str, dict[str, StoredTensor]]:
    """The headers of each packed module's parts, by module and end of the name."""
    held: dict[str, dict[str, StoredTensor]] = {}
    for name in sorted(reader.names()):
        part = next((p for p in format.parts if name.endswith(f".{p}")), None)
        if part is not None and (len(name) > MAX_NAME or not name.isprintable()):
            raise CheckpointError(
                f"{reader.folder} holds {one_line(name, width=120)}, which no model has: check "
                "that config.json and weights belong together"
            )
        if part is not None:
            held.setdefault(name.removesuffix(f".{part}"), {})[part] = reader.raw_header(name)
    modules = {module: parts for module, parts in held.items() if format.is_packed(parts)}
    if not modules:
        raise CheckpointError(
            f"config.json in {reader.folder} gives quant_method {format.method}, but no tensor is "
            "stored so: check that config.json and weights belong together"
        )
    return modules
