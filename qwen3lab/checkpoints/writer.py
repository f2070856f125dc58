"""Writing a checkpoint that `transformers` opens, too."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from qwen3lab.checkpoints.safetensors_reader import INDEX
from qwen3lab.checkpoints.tensor_names import as_published
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.dtypes import dtype_of
from qwen3lab.errors import CheckpointError
from qwen3lab.model.transformer import Qwen3
from qwen3lab.storage.atomic_files import whole_file, write_text


def save_checkpoint(
    model: Qwen3, folder: str | Path, *, dtype: torch.dtype | str | None = None
) -> None:
    """Write config.json and model.safetensors as published ones are, for `transformers` too.

    Raises:
        CheckpointError: not all weights are at hand, as in a streamed or quantised model, or the
            folder holds a checkpoint in shards, or a file cannot be written.
    """
    folder, dtype = Path(folder), dtype_of(dtype) or model.dtype
    _refuse_parts(model)
    _refuse_shards(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        published: part.to(dtype=dtype, device="cpu").contiguous()
        for name, parameter in model.state_dict().items()
        for published, part in as_published(name, parameter)
    }
    with whole_file(folder / "model.safetensors", error=CheckpointError) as part:
        save_file(tensors, part, metadata={"format": "pt"})
    write_config(model.config, folder, dtype)


def write_config(config: Qwen3Config, folder: Path, dtype: torch.dtype) -> None:
    """Write the config.json of a checkpoint whose weights have this dtype.

    Raises:
        CheckpointError: the file cannot be written.
    """
    fields = config.to_dict() | {"torch_dtype": str(dtype).removeprefix("torch.")}
    text = json.dumps(fields, indent=2)
    write_text(folder / "config.json", f"{text}\n", error=CheckpointError)


def _refuse_parts(model: Qwen3) -> None:
    held = model.state_dict()
    for name in Qwen3(model.config, device="meta").state_dict():
        if name not in held or held[name].is_meta:
            raise CheckpointError(
                f"{name} is not at hand, as where a model is streamed or quantised, and cannot be "
                "saved: load the model without memory= and quantise="
            )


def _refuse_shards(folder: Path) -> None:
    if (index := folder / INDEX).exists():
        raise CheckpointError(
            f"{index} lists a checkpoint in shards, which would be read instead of what is saved: "
            "choose another folder, or remove it and its shards"
        )
