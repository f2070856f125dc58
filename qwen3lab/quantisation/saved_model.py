"""Reads a quantised model that `save_checkpoint` wrote: the same bits, without quantising again."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qwen3lab.checkpoints.packed_writer import (
    FORMAT,
    MARK,
    packed_matrices,
    packed_name,
    part_name,
    plain_tensors,
)
from qwen3lab.checkpoints.safetensors_reader import SINGLE
from qwen3lab.checkpoints.tensor_plan import assign
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CheckpointError
from qwen3lab.model.transformer import Qwen3
from qwen3lab.quantisation.packed_matrices import PackedMatrices, empty_matrices
from qwen3lab.quantisation.quantised_model import replace_matrices
from qwen3lab.storage.checked_tensors import CheckedTensors, open_tensors


@without_grad
def open_saved(
    config: Qwen3Config,
    folder: Path,
    kind: str,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
) -> Qwen3:
    """Read a quantised model tensor by tensor.

    Args:
        config: of the model.
        folder: with the file of its weights.
        kind: "int8" or "int4".
        device: of the model.
        dtype: of the model as it was saved.

    Raises:
        CheckpointError: the file is missing or damaged, or is not of this model.
    """
    path = folder / SINGLE
    try:
        with open_tensors(path) as file:
            return _read(config, file, kind, torch.device(device), dtype)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path} is no intact quantised model ({one_line(str(error), width=200)}): fetch it "
            "again, or load the unquantised model with quantise= and save it again"
        ) from error


def _read(
    config: Qwen3Config,
    file: CheckedTensors,
    kind: str,
    device: torch.device,
    dtype: torch.dtype,
) -> Qwen3:
    about = json.loads(file.metadata[MARK])
    if about["format"] != FORMAT or not file.has_checksums:
        raise ValueError("its format is another one, or it has no checksums")
    if len(file.stored) < config.n_layers:  # Before a model of so many layers is built.
        raise ValueError(f"it has fewer tensors than layers, {config.n_layers:,}")
    used: set[str] = set()

    def read(name: str, like: Tensor) -> Tensor:
        stored = file.stored[name]
        if (stored.dtype, stored.shape) != (like.dtype, tuple(like.shape)):
            raise ValueError(
                f"{name} has dtype {stored.dtype} and shape {stored.shape}: expected {like.dtype} "
                f"and {tuple(like.shape)}"
            )
        value = file.read(name)
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ValueError(f"{name} has a value that is NaN or infinite")
        used.add(name)
        return value

    def pack(name: str, matrices: Tensor) -> PackedMatrices:
        rows, columns = matrices.shape[-2:]
        shape = (len(matrices) if matrices.ndim == 3 else 1, rows, columns)
        weight = packed_name(name)
        packed = empty_matrices(kind, shape, device, dtype)
        like, _ = empty_matrices(kind, shape, torch.device("meta"), dtype).stored(
            single=matrices.ndim == 2
        )
        packed.restore({part: read(part_name(weight, part), each) for part, each in like.items()})
        lost, norm = map(float, about["errors"][weight])
        packed.squared_error, packed.squared_norm = lost, norm
        return packed

    model = Qwen3(config, device="meta", dtype=dtype)
    replace_matrices(model, pack)
    names = dict(zip(dict(model.named_parameters()), dict(plain_tensors(model)), strict=True))
    for name, published in names.items():
        like: nn.Parameter | Any = model.get_parameter(name)
        assign(model, name, read(published, like).to(device))
    if surplus := file.stored.keys() - used:
        raise ValueError(f"it holds {min(surplus)}, which the model does not have")
    assert packed_matrices(model)
    return model.requires_grad_(False)
