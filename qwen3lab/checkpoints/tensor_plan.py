"""Matches a model's parameters to published tensors; checks names and shapes before reading."""

import torch
from torch import Tensor, nn

from qwen3lab.checkpoints.safetensors_reader import TensorSource
from qwen3lab.checkpoints.tensor_names import TIED_UNEMBEDDING, StoredPart, is_fused, stored_parts
from qwen3lab.errors import CheckpointError
from qwen3lab.model.transformer import Qwen3


def plan_tensors(model: Qwen3, weights: TensorSource, source: str) -> dict[str, list[StoredPart]]:
    """The published tensors of every parameter of a model, by parameter name.

    Args:
        model: its parameters may be on the meta device.
        weights: the available tensors.
        source: name of the source, for error messages.

    Raises:
        CheckpointError: a tensor is missing, has another shape, or belongs to another model.
    """
    unused = weights.names()
    available = frozenset(unused)
    planned = {}
    for name, parameter in model.named_parameters():
        parts = stored_parts(name, model.config, available)
        for part in parts:
            _check(part.name, tuple(parameter.shape), len(parts), weights, available, source)
        unused.difference_update(part.name for part in parts)
        planned[name] = parts
    if model.config.tied_embeddings:
        unused.discard(TIED_UNEMBEDDING)
    if unused:
        raise CheckpointError(
            f"{source} holds {sorted(unused)[0]}, which a model of this config.json does not have"
            f" ({len(unused)} such tensors in all): check that config and weights belong together"
        )
    return planned


def _check(
    part: str,
    shape: tuple[int, ...],
    n_parts: int,
    weights: TensorSource,
    available: frozenset[str],
    source: str,
) -> None:
    if part not in available:
        raise CheckpointError(f"{part} is missing from {source}: fetch the model again")
    expected = shape
    if len(shape) == 3 and not is_fused(part):
        expected = (shape[0] * shape[1] // n_parts, shape[2])
    found = weights.shape(part)
    if found != expected:
        raise CheckpointError(
            f"{part} in {source} has shape {found}: config.json asks for {expected}"
        )


def assign(module: nn.Module, name: str, value: Tensor) -> None:
    """Set a module's parameter of this name to a tensor."""
    path, leaf = name.rpartition(".")[::2]
    parameter = nn.Parameter(value, requires_grad=False)
    setattr(module.get_submodule(path), leaf, parameter)


def read_parameter(
    weights: TensorSource,
    parts: list[StoredPart],
    like: Tensor,
    device: torch.device | str,
    dtype: torch.dtype | None,
) -> Tensor:
    """A new parameter read from its published tensors; peak memory is one copy of it.

    Args:
        weights: where to read from.
        parts: the published tensors, in row order.
        like: gives the shape.
        device: of the result.
        dtype: of the result; None keeps the stored dtype. On the CPU, a single tensor in its
            stored dtype stays mapped from the file.
    """
    stored = weights.dtype(parts[0].name)
    kind = dtype or stored
    if len(parts) == 1 and kind == stored and torch.device(device).type == "cpu":
        return weights.tensor(parts[0].name).view(like.shape)
    return copy_parts(weights, parts, torch.empty(like.shape, device=device, dtype=kind))


def copy_parts(weights: TensorSource, parts: list[StoredPart], into: Tensor) -> Tensor:
    """Copy the published tensors of a parameter into an existing tensor; no file stays mapped."""
    pieces = into.flatten(0, 1).chunk(len(parts)) if len(parts) > 1 else [into]
    weights.fill(zip(pieces, parts, strict=True))
    return into
