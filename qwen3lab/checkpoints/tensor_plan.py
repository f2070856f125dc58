"""Matches a model's parameters to published tensors; checks names and shapes before reading."""

import warnings
from dataclasses import replace
from reprlib import repr as shown

import torch
from torch import Tensor, nn

from qwen3lab.checkpoints.foreign_names import missing, surplus
from qwen3lab.checkpoints.safetensors_reader import TensorSource
from qwen3lab.checkpoints.tensor_names import (
    OUTSIDE_BLOCKS,
    TIED_UNEMBEDDING,
    StoredPart,
    is_fused,
    stored_parts,
)
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.dtypes import DTYPES
from qwen3lab.display.plain import one_line
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
            _check(part, tuple(parameter.shape), len(parts), weights, available, source)
        unused.difference_update(part.name for part in parts)
        planned[name] = parts
    if model.config.tied_embeddings and model.config.has_unembedding:
        unused.discard(TIED_UNEMBEDDING)
    if unused:
        raise CheckpointError(surplus(unused, source))
    return planned


def check_depth(config: Qwen3Config, weights: TensorSource, source: str) -> None:
    """Check that there are as many tensors as layers, before a model of so many is built.

    Args:
        config: as read.
        weights: the available tensors.
        source: name of the source, for the error message.

    Raises:
        CheckpointError: there are fewer tensors than layers.
    """
    names = weights.names()
    if len(names) < config.n_layers:
        last = f"model.layers.{config.n_layers - 1}.input_layernorm.weight"
        raise CheckpointError(missing(last, names, source))


def _check(
    stored: StoredPart,
    shape: tuple[int, ...],
    n_parts: int,
    weights: TensorSource,
    available: frozenset[str],
    source: str,
) -> None:
    part = stored.name
    if part not in available:
        raise CheckpointError(missing(part, available, source))
    expected = shape
    if len(shape) == 3 and not is_fused(part):
        expected = (shape[0] * shape[1] // n_parts, shape[2])
        if stored.entry is not None:  # Of a stack of one matrix of all experts.
            expected = (shape[0], *expected)
    found = weights.shape(part)
    if found != expected:
        raise CheckpointError(
            f"{part} in {source} has shape {found}: config.json asks for {expected}"
        )


def as_stored(config: Qwen3Config, weights: TensorSource, source: str) -> Qwen3Config:
    """The config, corrected by the tensors that there are.

    Embeddings are untied if the weights hold an unembedding of its own, as in `transformers`.
    Weights that were saved from a model without any head have no unembedding, unless it is tied.

    Args:
        config: as read.
        weights: the available tensors.
        source: name of the source, for the warning.

    Warns:
        UserWarning: the config ties embeddings that differ.
    """
    names, available = (OUTSIDE_BLOCKS["embed.weight"], TIED_UNEMBEDDING), weights.names()
    if not config.labels and not config.tied_embeddings:
        is_headless = weights.is_base_model() or not config.has_unembedding
        return replace(config, has_unembedding=names[1] in available or not is_headless)
    if not config.tied_embeddings or not available.issuperset(names) or _equal(weights, *names):
        return config
    warnings.warn(
        f"config.json ties the embeddings, but {source} holds {names[1]} with other values than "
        f"{names[0]}: both are used, as in transformers; write tie_word_embeddings as false",
        stacklevel=2,
    )
    return replace(config, tied_embeddings=False)


def _equal(weights: TensorSource, one: str, other: str) -> bool:
    if weights.shape(one) != weights.shape(other):
        return False
    kinds = {weights.dtype(one), weights.dtype(other)}
    pairs = zip(weights.values(one), weights.values(other), strict=True)
    if len(kinds) == 1:
        return all(torch.equal(a, b) for a, b in pairs)
    return all(torch.equal(a.double(), b.double()) for a, b in pairs)


def stored_dtype(weights: TensorSource, source: str, stated: object = None) -> torch.dtype:
    """The dtype of a checkpoint: what its config states, else that of its embedding.

    All tensors get this dtype, as in `transformers`, because one pass cannot mix dtypes.

    Args:
        weights: the available tensors.
        source: name of the source, for error messages.
        stated: `dtype` or `torch_dtype` of config.json.

    Raises:
        CheckpointError: there is no embedding, a tensor is not of a float dtype, or the config
            states something else than a float dtype.

    Warns:
        UserWarning: tensors that are stored in another dtype; the message names one.
    """
    names = [OUTSIDE_BLOCKS["embed.weight"], TIED_UNEMBEDDING]
    first = next((name for name in names if name in weights.names()), names[0])
    if first not in weights.names():
        raise CheckpointError(missing(first, weights.names(), source))
    kind = _stated_dtype(stated, weights.dtype(first), source)
    others = [name for name in sorted(weights.names()) if weights.dtype(name) != kind]
    if others:
        other = str(weights.dtype(others[0])).removeprefix("torch.")
        warnings.warn(
            f"{len(others)} of {len(weights.names())} tensors of {source} are not stored as "
            f"{str(kind).removeprefix('torch.')}, such as {one_line(others[0], width=120)} "
            f"({other}): they are converted, as in transformers; give dtype= to choose",
            stacklevel=2,
        )
    return kind


def _stated_dtype(stated: object, stored: torch.dtype, source: str) -> torch.dtype:
    if stated in (None, str(stored).removeprefix("torch.")):
        return stored
    if not isinstance(stated, str) or stated not in DTYPES:
        raise CheckpointError(
            f"config.json in {source} gives dtype as {shown(stated)}: expected one of "
            f"{', '.join(DTYPES)}; correct it, or give dtype= to choose"
        )
    return DTYPES[stated]


def assign(module: nn.Module, name: str, value: Tensor) -> None:
    """Set a module's parameter of this name to a tensor."""
    path, leaf = name.rpartition(".")[::2]
    parameter = nn.Parameter(value, requires_grad=False)
    setattr(module.get_submodule(path), leaf, parameter)


def copy_parts(weights: TensorSource, parts: list[StoredPart], into: Tensor) -> Tensor:
    """Copy the published tensors of a parameter into an existing tensor; no file stays mapped."""
    pieces = into.flatten(0, 1).chunk(len(parts)) if len(parts) > 1 else [into]
    weights.fill(zip(pieces, parts, strict=True))
    return into
