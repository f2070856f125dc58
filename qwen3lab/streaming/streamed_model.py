"""Models larger than memory: blocks that come from the disk as the forward pass gets to them.

The forward pass itself does not know. It goes through `model.blocks` in their order, and asks an
`Experts` module for the matrices of the experts that its tokens were sent to; here both come from
a `WeightCache`, which reads the next while this one is used.
"""

import re
from collections.abc import Iterator
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from qwen3lab.checkpoints.safetensors_file import CHUNK_BYTES
from qwen3lab.checkpoints.safetensors_reader import CheckpointReader
from qwen3lab.checkpoints.tensor_names import (
    EXPERT_MATRICES,
    StoredPart,
    split_name,
    stored_parts_of_expert,
)
from qwen3lab.checkpoints.tensor_plan import assign, copy_parts, plan_tensors
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import CheckpointError
from qwen3lab.model.transformer import Block, Experts, Product, Qwen3
from qwen3lab.streaming.weight_cache import DEPTH, Unit, WeightCache

NO_EXPERT = -1
PATIENCE = 2.0
"""Seconds before a pass shows how far it is."""

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def bytes_of(text: str | int) -> int:
    """Bytes in words: "8GB", "500 MiB"; a number is bytes already.

    Raises:
        CheckpointError: not such a size.
    """
    if isinstance(text, int) and text > 0:
        return text
    found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d+)?)\s*([kmgt]?i?b)\s*", str(text), re.IGNORECASE)
    if found is None or found[2].upper() not in UNITS or float(found[1]) == 0:
        raise CheckpointError(f"memory is {text!r}: expected a size such as '8GB' or '500MiB'")
    return int(float(found[1]) * UNITS[found[2].upper()])


@torch.no_grad()
def open_streamed(
    config: Qwen3Config,
    weights: CheckpointReader,
    *,
    memory: int,
    device: torch.device | str,
    dtype: torch.dtype,
    source: str,
) -> Qwen3:
    """A model whose blocks are read when they are needed, and kept while there is room.

    Args:
        config: its sizes.
        weights: the checkpoint.
        memory: bytes for weights, at most: embeddings, what is kept, and what is being read.
            Activations, recordings and the key/value cache come on top.
        device: where it runs.
        dtype: of the weights.
        source: what to call the checkpoint in an error.

    Raises:
        CheckpointError: a tensor is missing or has another shape, or the memory is less than
            `least_memory`; checked before anything is read.
    """
    model = Qwen3(config, device="meta")
    parts, least = plan_tensors(model, weights, source), least_memory(config, dtype)
    if memory < least:
        raise CheckpointError(
            f"memory is {memory / 1e9:.2f} GB, and {source} needs {least / 1e9:.2f} GB in "
            f"{str(dtype).removeprefix('torch.')} for its embeddings and the pieces at hand: "
            "give it more, or a dtype of fewer bytes"
        )
    shelf = WeightCache(weights, room=memory - least, device=device, dtype=dtype)
    for name in _outer(model):
        room = torch.empty(model.get_parameter(name).shape, device=device, dtype=dtype)
        assign(model, name, copy_parts(weights, parts[name], room))
    units = [_layer_unit(layer, block, parts) for layer, block in enumerate(model.blocks)]
    shelf.reserve(units)
    # Cast: all that is asked of `blocks` is to go through them, and to give one of them.
    model.blocks = cast(nn.ModuleList, StreamedBlocks(config, list(model.blocks), units, shelf))
    return model


def least_memory(config: Qwen3Config, dtype: torch.dtype) -> int:
    """Bytes that streaming a model takes at the least, activations left out.

    Embeddings, norm and unembedding; of the blocks what is in use and being read; and the
    stretches of files that it comes by.
    """
    model = Qwen3(config, device="meta")
    outer = sum(model.get_parameter(name).numel() for name in _outer(model))
    kinds = {unit.kind: unit.n_values for unit in map(_bare_unit, model.blocks)}
    one_expert = 3 * config.d_model * config.d_expert
    at_hand = DEPTH * (sum(kinds.values()) + one_expert)
    return (outer + at_hand) * dtype.itemsize + 2 * CHUNK_BYTES


def _outer(model: Qwen3) -> list[str]:
    return [name for name, _ in model.named_parameters() if not split_name(name)[0]]


def _bare_unit(block: nn.Module) -> Unit:
    """The shapes of a layer without its experts."""
    shapes = {n: tuple(p.shape) for n, p in block.named_parameters() if n not in EXPERT_MATRICES}
    return Unit((NO_EXPERT, NO_EXPERT), shapes, {})


def _layer_unit(layer: int, block: nn.Module, parts: dict[str, list[StoredPart]]) -> Unit:
    """A layer without its experts."""
    shapes = _bare_unit(block).shapes
    own = {name: parts[f"blocks.{layer}.{name}"] for name in shapes}
    return Unit((layer, NO_EXPERT), shapes, own)


class StreamedBlocks(nn.Module):
    """The blocks of a model, each with its weights only while it is its turn.

    Args:
        config: of the model.
        blocks: the model's, on the meta device.
        units: the weights of each, experts left out.
        shelf: where weights come from.

    Attributes:
        progress: whether a pass that takes long shows a bar.
    """

    def __init__(
        self, config: Qwen3Config, blocks: list[nn.Module], units: list[Unit], shelf: WeightCache
    ) -> None:
        super().__init__()
        self.config, self.units, self.shelf, self.progress = config, units, shelf, True
        available = frozenset(shelf.weights.names())  # One for all layers: there are many names.
        for layer in config.moe_layers:
            blocks[layer].mlp = StreamedExperts(config, layer, shelf, available)
        self._bare = blocks  # A list: their parameters, which come and go, are not this module's.

    def __len__(self) -> int:
        return len(self._bare)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the blocks that are kept."""
        return self.shelf.kept_bytes

    def __iter__(self) -> Iterator[nn.Module]:
        return self.since(0)

    def since(self, first: int) -> Iterator[nn.Module]:
        """The blocks from one of them on, in their order."""
        bar = tqdm(
            self._bare[first:],
            initial=first,
            total=len(self._bare),
            unit="layer",
            delay=PATIENCE,
            leave=False,
            disable=not self.progress,
        )
        weights = self.shelf.stream(self.units[first:])
        for block, tensors in zip(bar, weights, strict=True):
            yield from _lent(block, tensors)

    def __getitem__(self, layer: int) -> Block:
        """A block to look at, with weights of its own; its experts stay where they are."""
        unit = self.units[layer]
        block = Block(self.config, unit.key[0], device="meta")
        for name, value in self.shelf.read(unit).items():
            assign(block, name, value)
        return block


def _lent(block: nn.Module, tensors: dict[str, Tensor]) -> Iterator[nn.Module]:
    """A block that has its weights until the next is asked for."""
    for name, value in tensors.items():
        assign(block, name, value)
    try:
        yield block
    finally:
        for name, value in tensors.items():
            assign(block, name, value.to("meta"))


class StreamedExperts(Experts):
    """Experts that are read one by one: those alone that tokens were sent to."""

    at_hand = False

    def __init__(
        self, config: Qwen3Config, layer: int, shelf: WeightCache, available: frozenset[str]
    ) -> None:
        super().__init__(config, layer, device="meta")
        self.layer, self.shelf, self.available = layer, shelf, available

    def products(self, experts: list[int]) -> Iterator[tuple[Product, Product]]:
        """Products with the matrices of some experts, the next being read meanwhile."""
        for found in self.shelf.stream(self._unit(expert) for expert in experts):
            gate_up, down = found["mlp.gate_up"], found["mlp.down"]
            yield partial(F.linear, weight=gate_up), partial(F.linear, weight=down)

    def _unit(self, expert: int) -> Unit:
        shapes = {name: tuple(self.get_parameter(name[4:]).shape[1:]) for name in EXPERT_MATRICES}
        parts = {
            name: stored_parts_of_expert(self.layer, expert, name, self.available)
            for name in EXPERT_MATRICES
        }
        return Unit((self.layer, expert), shapes, parts)
