"""Models larger than memory: reads blocks from disk when the forward pass reaches them.

The forward pass is unchanged: it iterates over `model.blocks`, and requests from each `Experts`
module the matrices of the chosen experts. Here, both come from a `WeightCache`, which reads the
next unit while the current one is in use.
"""

import re
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from qwen3lab.checkpoints.safetensors_file import CHUNK_BYTES
from qwen3lab.checkpoints.safetensors_reader import StoredTensors
from qwen3lab.checkpoints.tensor_names import (
    EXPERT_MATRICES,
    StoredPart,
    split_name,
    stored_parts_of_expert,
)
from qwen3lab.checkpoints.tensor_plan import assign, copy_parts, plan_tensors
from qwen3lab.config.placement import least_streamed_values
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.errors import CheckpointError
from qwen3lab.model.experts import Product
from qwen3lab.model.transformer import Block, Experts, Qwen3
from qwen3lab.streaming.weight_cache import WeightCache, WeightUnit

NO_EXPERT = -1
PROGRESS_DELAY_SECONDS = 2.0
"""A forward pass that takes longer shows a progress bar."""

BYTE_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
BYTE_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def bytes_of(text: str | int) -> int:
    """The number of bytes of a size such as "8GB" or "500 MiB"; a number is returned unchanged.

    Raises:
        CheckpointError: the text is not a size.
    """
    if isinstance(text, int) and text > 0:
        return text
    match = re.fullmatch(r"\s*(\d{1,18}(?:\.\d+)?)\s*([kmgt]?i?b)\s*", str(text), re.IGNORECASE)
    if match is None or match[2].upper() not in BYTE_UNITS or float(match[1]) == 0:
        raise CheckpointError(f"memory is {text!r}: expected a size such as '8GB' or '500MiB'")
    return int(float(match[1]) * BYTE_UNITS[match[2].upper()])


@without_grad
def open_streamed(
    config: Qwen3Config,
    weights: StoredTensors,
    *,
    memory: int,
    device: torch.device | str,
    dtype: torch.dtype,
    source: str,
) -> Qwen3:
    """Open a model whose blocks and experts are read on demand and cached up to a limit.

    Args:
        config: of the model.
        weights: the checkpoint.
        memory: limit in bytes for embeddings, cached units and read buffers. Activations,
            recordings and the key/value cache are not included.
        device: of the model.
        dtype: of the weights.
        source: name of the checkpoint, for error messages.

    Raises:
        CheckpointError: a tensor is missing or has another shape, or `memory` is below
            `least_memory`; checked before any tensor is read. A NaN or infinite value outside the
            blocks is refused here, one of a block or an expert when it is first read.
    """
    model = Qwen3(config, device="meta")
    parts, least = plan_tensors(model, weights, source), least_memory(config, dtype)
    if memory < least:
        raise CheckpointError(
            f"memory is {memory / 1e9:.2f} GB, and {source} needs {least / 1e9:.2f} GB in "
            f"{str(dtype).removeprefix('torch.')} for its embeddings and read buffers: "
            "give more memory, or a smaller dtype"
        )
    weight_cache = WeightCache(weights, capacity=memory - least, device=device, dtype=dtype)
    for name in _names_outside_blocks(model):
        out = torch.empty(model.get_parameter(name).shape, device=device, dtype=dtype)
        assign(model, name, copy_parts(weights, parts[name], out))
    units = [_layer_unit(layer, block, parts) for layer, block in enumerate(model.blocks)]
    weight_cache.reserve(units)
    model.blocks = StreamedBlocks(config, list(model.blocks), units, weight_cache)
    return model


def least_memory(config: Qwen3Config, dtype: torch.dtype) -> int:
    """Minimum bytes for streaming a model, without activations.

    Counts the embedding, the final norm, the unembedding, the units in use and being read, and
    the read buffers.
    """
    return least_streamed_values(config) * dtype.itemsize + 2 * CHUNK_BYTES


def _names_outside_blocks(model: Qwen3) -> list[str]:
    return [name for name, _ in model.named_parameters() if not split_name(name)[0]]


def _unit_without_experts(block: nn.Module) -> WeightUnit:
    """Shapes of a layer's weights, experts excluded."""
    shapes = {n: tuple(p.shape) for n, p in block.named_parameters() if n not in EXPERT_MATRICES}
    return WeightUnit((NO_EXPERT, NO_EXPERT), shapes, {})


def _layer_unit(layer: int, block: nn.Module, parts: dict[str, list[StoredPart]]) -> WeightUnit:
    """Shapes and stored parts of a layer's weights, experts excluded."""
    shapes = _unit_without_experts(block).shapes
    stored = {name: parts[f"blocks.{layer}.{name}"] for name in shapes}
    return WeightUnit((layer, NO_EXPERT), shapes, stored)


class StreamedBlocks(nn.Module):
    """The blocks of a model; each has its weights only while the forward pass runs it.

    Args:
        config: of the model.
        blocks: the model's blocks, on the meta device.
        units: the weights of each block, experts excluded.
        weight_cache: reads and caches the weights.

    Attributes:
        progress: True if slow forward passes show a progress bar.
    """

    is_streamed = True

    def __init__(
        self,
        config: Qwen3Config,
        blocks: list[Block],
        units: list[WeightUnit],
        weight_cache: WeightCache,
    ) -> None:
        super().__init__()
        self.config, self.units, self.progress = config, units, True
        self.weight_cache = weight_cache
        # One set for all layers, because a checkpoint may have thousands of names.
        available = frozenset(weight_cache.weights.names())
        for layer in config.moe_layers:
            blocks[layer].mlp = StreamedExperts(config, layer, weight_cache, available)
        self._bare = blocks  # A list, so that the changing parameters are not registered here.

    def __len__(self) -> int:
        return len(self._bare)

    @property
    def kept_bytes(self) -> int:
        """Bytes of weights that are kept in memory between passes."""
        return self.weight_cache.kept_bytes

    @property
    def bytes_read(self) -> int:
        """Bytes of weights that were read so far, in the dtype in which they run."""
        return self.weight_cache.bytes_read

    @property
    def bytes_used(self) -> int:
        """Bytes of weights that passes asked for so far, read or kept."""
        return self.weight_cache.bytes_used

    def file_stamps(self) -> list[str]:
        """Name, size and time of change of every file, as they are now.

        Raises:
            CheckpointError: a file is missing.
        """
        return self.weight_cache.weights.file_stamps()

    def __iter__(self) -> Iterator[Block]:
        return self.since(0)

    def since(self, first: int) -> Iterator[Block]:
        """The blocks from layer `first` on, in order."""
        bar = tqdm(
            self._bare[first:],
            initial=first,
            total=len(self._bare),
            unit="layer",
            delay=PROGRESS_DELAY_SECONDS,
            leave=False,
            disable=not self.progress,
        )
        weights = self.weight_cache.stream(self.units[first:])
        for block, tensors in zip(bar, weights, strict=True):
            yield from _with_weights(block, tensors)

    def __getitem__(self, layer: int) -> Block:
        """A copy of a block with its weights; the matrices of its experts are not loaded."""
        unit = self.units[layer]
        block = Block(self.config, unit.key[0], device="meta")
        for name, value in self.weight_cache.read(unit).items():
            assign(block, name, value)
        return block


def _with_weights(block: Block, tensors: dict[str, Tensor]) -> Iterator[Block]:
    """Yields a block with its weights; puts it back on the meta device afterwards."""
    for name, value in tensors.items():
        assign(block, name, value)
    try:
        yield block
    finally:
        for name, value in tensors.items():
            assign(block, name, value.to("meta"))


class StreamedExperts(Experts):
    """Experts that are read one at a time, and only if tokens were routed to them."""

    stacked = False

    def __init__(
        self, config: Qwen3Config, layer: int, weight_cache: WeightCache, available: frozenset[str]
    ) -> None:
        super().__init__(config, layer, device="meta")
        self.layer, self.weight_cache, self.available = layer, weight_cache, available

    def products(self, experts: list[int]) -> Iterator[tuple[Product, Product]]:
        """For each expert, its two matrix products; the next expert is read meanwhile."""
        for found in self.weight_cache.stream(self._unit(expert) for expert in experts):
            gate_up, down = found["mlp.gate_up"], found["mlp.down"]
            yield partial(F.linear, weight=gate_up), partial(F.linear, weight=down)

    def _unit(self, expert: int) -> WeightUnit:
        shapes = {name: tuple(self.get_parameter(name[4:]).shape[1:]) for name in EXPERT_MATRICES}
        parts = {
            name: stored_parts_of_expert(self.layer, expert, name, self.available)
            for name in EXPERT_MATRICES
        }
        return WeightUnit((self.layer, expert), shapes, parts)
