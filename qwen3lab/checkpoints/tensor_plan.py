"""Which published tensors make up a model's parameters: checked before anything is read."""

import torch
from torch import Tensor, nn

from qwen3lab.checkpoints.safetensors_reader import TensorSource
from qwen3lab.checkpoints.tensor_names import UNUSED, StoredPart, is_fused, parts_of
from qwen3lab.errors import CheckpointError
from qwen3lab.model.transformer import Qwen3


def plan(model: Qwen3, weights: TensorSource, source: str) -> dict[str, list[StoredPart]]:
    """The parts of every parameter of a model.

    Args:
        model: whose parameters may be on the meta device.
        weights: what there is.
        source: what to call it in an error.

    Raises:
        CheckpointError: a tensor is missing, has another shape, or belongs to another model.
    """
    left = weights.names()
    available = frozenset(left)
    found = {}
    for name, parameter in model.named_parameters():
        parts = parts_of(name, model.config, available)
        for part in parts:
            _check(part.name, tuple(parameter.shape), len(parts), weights, available, source)
        left.difference_update(part.name for part in parts)
        found[name] = parts
    if model.config.tied_embeddings:
        left.discard(UNUSED)
    if left:
        raise CheckpointError(
            f"{source} holds {sorted(left)[0]}, which a model of this config.json does not have"
            f" ({len(left)} such tensors in all): check that config and weights belong together"
        )
    return found


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
    """Make a tensor a module's parameter of this name."""
    path, leaf = name.rpartition(".")[::2]
    parameter = nn.Parameter(value, requires_grad=False)
    setattr(module.get_submodule(path), leaf, parameter)


def assembled(
    weights: TensorSource,
    parts: list[StoredPart],
    like: Tensor,
    device: torch.device | str,
    dtype: torch.dtype | None,
) -> Tensor:
    """One of our tensors out of its published parts, without a second copy of all of them."""
    stored = weights.dtype(parts[0].name)
    kind = dtype or stored
    if len(parts) == 1 and kind == stored and torch.device(device).type == "cpu":
        return weights.tensor(parts[0].name).view(like.shape)
    return copied(weights, parts, torch.empty(like.shape, device=device, dtype=kind))


def copied(weights: TensorSource, parts: list[StoredPart], into: Tensor) -> Tensor:
    """One of our tensors copied into memory that is there already; no file stays mapped."""
    pieces = into.flatten(0, 1).chunk(len(parts)) if len(parts) > 1 else [into]
    weights.fill(zip(pieces, parts, strict=True))
    return into
