"""Loads a model from a folder, an embedded model or the hub: in memory, streamed or quantised.

The tensors must match the configuration exactly: a missing, surplus or misshapen tensor is an
error. Pickle files are never opened. Tensors are read one at a time, so peak memory is about one
copy of the weights.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.checkpoints.safetensors_reader import CheckpointReader, TensorsInMemory, TensorSource
from qwen3lab.checkpoints.tensor_names import OUTSIDE_BLOCKS
from qwen3lab.checkpoints.tensor_plan import assign, plan_tensors, read_parameter
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.dtypes import dtype_of
from qwen3lab.errors import CheckpointError
from qwen3lab.model.transformer import Qwen3
from qwen3lab.quantisation.quantised_model import open_quantised
from qwen3lab.streaming.streamed_model import bytes_of, open_streamed


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model, its configuration, and the folder and name that it was loaded from."""

    config: Qwen3Config
    model: Qwen3
    folder: Path
    name: str


def open_checkpoint(
    name: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    memory: str | int | None = None,
    quantise: str | None = None,
) -> Checkpoint:
    """Find and load a model.

    Args:
        name: a local folder, an embedded model, or a hub id, tried in this order. With a
            revision, embedded models are tried first, since local folders have no revisions.
        device: of the weights.
        dtype: of the weights. None means float32 on a CPU, bfloat16 on a CPU with `quantise`
            (its fast kernels need bfloat16 activations), and the stored dtype elsewhere.
        revision: branch, tag or commit on the hub; an embedded model's `embedded_revisions`.
        memory: limit for the weights, such as "8GB"; blocks and experts beyond the limit are
            read again from disk in every forward pass.
        quantise: "int8" or "int4"; quantises the matrices inside the blocks.

    Raises:
        CheckpointError: no such model, incomplete or damaged files, or `memory` is below the
            minimum.
        ConfigError: the model is not a Qwen3.
        DtypeError: an unknown dtype.
    """
    folder = find_folder(name, revision=revision)
    if dtype is None and torch.device(device).type == "cpu":
        dtype = torch.bfloat16 if quantise else torch.float32
    model = load_model(folder, device=device, dtype=dtype, memory=memory, quantise=quantise)
    full_name = f"{name}@{revision}" if revision else str(name)
    return Checkpoint(model.config, model, folder, full_name)


def load_model(
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    memory: str | int | None = None,
    quantise: str | None = None,
) -> Qwen3:
    """Build the model of a folder and read its weights.

    Peak memory is about one copy of the weights. On a CPU, weights in their stored dtype stay
    memory-mapped. With `memory`, blocks beyond the limit are read when the forward pass reaches
    them. With `quantise`, matrices are quantised one at a time while they are read.

    Raises:
        CheckpointError: a tensor is missing, surplus, of another shape or unreadable; both
            `memory` and `quantise` are given.
        ConfigError: the folder's config.json does not describe a Qwen3.
        DtypeError: an unknown dtype.
    """
    folder = Path(folder)
    config = Qwen3Config.from_file(folder)
    _refuse_quantised(folder)
    weights, kind = CheckpointReader(folder), dtype_of(dtype)
    if memory is None and quantise is None:
        return _load_into_memory(config, weights, device=device, dtype=kind, source=str(folder))
    if memory is not None and quantise is not None:
        raise CheckpointError(
            "memory and quantise cannot be combined: choose memory (streamed weights are exact) "
            "or quantise (quantised weights are fast)"
        )
    kind = kind or weights.dtype(OUTSIDE_BLOCKS["embed.weight"])
    options: dict[str, Any] = {"device": device, "dtype": kind, "source": str(folder)}
    if quantise is not None:
        return open_quantised(config, weights, quantise, **options)
    assert memory is not None
    return open_streamed(config, weights, memory=bytes_of(memory), **options)


def from_transformers(hf_model: Any) -> Qwen3:
    """Copy a `transformers` Qwen3 or Qwen3-MoE model.

    Raises:
        CheckpointError: the model's tensors do not match its config.
        ConfigError: the model is not a Qwen3.
    """
    config = Qwen3Config.from_dict(hf_model.config.to_dict())
    memory = TensorsInMemory(hf_model.state_dict())
    device = next(hf_model.parameters()).device
    return _load_into_memory(
        config, memory, device=device, dtype=None, source="the model in memory"
    )


@torch.no_grad()
def _load_into_memory(
    config: Qwen3Config,
    weights: TensorSource,
    *,
    device: torch.device | str,
    dtype: torch.dtype | None,
    source: str,
) -> Qwen3:
    model = Qwen3(config, device="meta")
    for name, parts in plan_tensors(model, weights, source).items():
        like = model.get_parameter(name)
        assign(model, name, read_parameter(weights, parts, like, device, dtype))
    return model.requires_grad_(True)


def _refuse_quantised(folder: Path) -> None:
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if quantised := fields.get("quantization_config"):
        has_method = isinstance(quantised, dict) and "quant_method" in quantised
        method = quantised["quant_method"] if has_method else "an unknown method"
        raise CheckpointError(
            f"{folder} holds weights quantised with {method}: load the model's unquantised release"
        )
