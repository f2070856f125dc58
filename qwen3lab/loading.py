"""From a name, a folder or a hub id to a model: whole, streamed or quantised.

Every tensor is accounted for: what the model needs must be there in the right shape, and
nothing else may be. Pickle files are never opened. A tensor is read when it is needed, so that
no more than one copy of the weights is in memory.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.checkpoints.safetensors_reader import CheckpointReader, TensorsInMemory, TensorSource
from qwen3lab.checkpoints.tensor_names import OUTER
from qwen3lab.checkpoints.tensor_plan import assembled, assign, plan
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.dtypes import dtype_of
from qwen3lab.errors import CheckpointError
from qwen3lab.model.transformer import Qwen3
from qwen3lab.quantisation.quantised_model import open_quantised
from qwen3lab.streaming.streamed_model import bytes_of, open_streamed


@dataclass(frozen=True)
class Checkpoint:
    """A model that has been loaded, and where it came from."""

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
        name: a local folder, an embedded model, or a hub id, tried in this order; with a
            revision, which folders do not have, an embedded model comes first.
        device: where the weights go.
        dtype: of the weights; None takes float32 on a CPU (bfloat16 beside quantised weights,
            for which there are quick kernels) and the stored dtype elsewhere.
        revision: branch, tag or commit on the hub; an embedded model's `embedded_revisions`.
        memory: for weights, such as "8GB"; what does not fit is read in every pass.
        quantise: "int8" or "int4", for the matrices inside of the blocks.

    Raises:
        CheckpointError: no such model, its files are incomplete or damaged, or the memory is
            too little.
        ConfigError: the model is not a Qwen3.
    """
    folder = find_folder(name, revision=revision)
    if dtype is None and torch.device(device).type == "cpu":
        dtype = torch.bfloat16 if quantise else torch.float32
    model = load_model(folder, device=device, dtype=dtype, memory=memory, quantise=quantise)
    called = f"{name}@{revision}" if revision else str(name)
    return Checkpoint(model.config, model, folder, called)


def load_model(
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    memory: str | int | None = None,
    quantise: str | None = None,
) -> Qwen3:
    """Build the model of a folder and fill it; peak memory is about one copy of the weights.

    In the dtype in which they are stored, weights on a CPU stay mapped from their files. With
    `memory`, blocks that do not fit are read whenever the forward pass gets to them. With
    `quantise`, they are quantised one by one while they are read.

    Raises:
        CheckpointError: a tensor is missing, surplus, of another shape or unreadable; both
            `memory` and `quantise` are given.
        ConfigError: the folder's config.json is not that of a Qwen3.
    """
    folder = Path(folder)
    config = Qwen3Config.from_file(folder)
    _refuse_quantised(folder)
    weights, kind = CheckpointReader(folder), dtype_of(dtype)
    if memory is None and quantise is None:
        return _filled(config, weights, device=device, dtype=kind, source=str(folder))
    if memory is not None and quantise is not None:
        raise CheckpointError(
            "memory and quantise are two ways to deal with too little of it: choose one; streamed "
            "weights are exact, quantised ones quick"
        )
    kind = kind or weights.dtype(OUTER["embed.weight"])
    options: dict[str, Any] = {"device": device, "dtype": kind, "source": str(folder)}
    if quantise is not None:
        return open_quantised(config, weights, quantise, **options)
    assert memory is not None
    return open_streamed(config, weights, memory=bytes_of(memory), **options)


def from_transformers(hf_model: Any) -> Qwen3:
    """A copy of a `transformers` Qwen3 or Qwen3-MoE model that is in memory.

    Raises:
        CheckpointError: its tensors are not those of its config.
        ConfigError: it is not a Qwen3.
    """
    config = Qwen3Config.from_dict(hf_model.config.to_dict())
    memory = TensorsInMemory(hf_model.state_dict())
    device = next(hf_model.parameters()).device
    return _filled(config, memory, device=device, dtype=None, source="the model in memory")


@torch.no_grad()
def _filled(
    config: Qwen3Config,
    weights: TensorSource,
    *,
    device: torch.device | str,
    dtype: torch.dtype | None,
    source: str,
) -> Qwen3:
    model = Qwen3(config, device="meta")
    for name, parts in plan(model, weights, source).items():
        like = model.get_parameter(name)
        assign(model, name, assembled(weights, parts, like, device, dtype))
    return model.requires_grad_(True)


def _refuse_quantised(folder: Path) -> None:
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if quantised := fields.get("quantization_config"):
        is_said = isinstance(quantised, dict) and "quant_method" in quantised
        method = quantised["quant_method"] if is_said else "some method"
        raise CheckpointError(
            f"{folder} holds weights quantised with {method}: load the model's unquantised release"
        )
