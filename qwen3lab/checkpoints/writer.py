"""Writes a checkpoint that `transformers` opens as well."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from qwen3lab.arguments import checked
from qwen3lab.checkpoints.packed_writer import (
    packed_matrices,
    quantisation_config,
    save_packed,
)
from qwen3lab.checkpoints.safetensors_reader import INDEX, SINGLE
from qwen3lab.checkpoints.tensor_names import published_tensors
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.dtypes import dtype_of
from qwen3lab.errors import CheckpointError
from qwen3lab.model.low_rank import Adapted
from qwen3lab.model.transformer import Qwen3
from qwen3lab.storage.atomic_files import whole_file, write_text


@checked
def save_checkpoint(
    model: Qwen3, folder: str | Path, *, dtype: torch.dtype | str | None = None
) -> None:
    """Write config.json and model.safetensors in the published format, which `transformers` opens.

    A quantised model is written as it is, in the format of torchao: `load` reads it in seconds, to
    the same bits.

    Args:
        model: a model with all of its weights in memory.
        folder: created if missing; files of these two names are overwritten.
        dtype: of the stored weights; None keeps the model's.

    Raises:
        CheckpointError: the model is streamed, the folder holds a sharded checkpoint, a file cannot
            be written, another dtype is given for a quantised model, or its weights stayed
            packed as they were stored.
        DtypeError: an unknown dtype.
    """
    folder, dtype = Path(folder), dtype_of(dtype) or model.dtype
    _refuse_adapters(model)
    packed = packed_matrices(model)
    if any(matrices.kind == "kept" for matrices in packed.values()):
        raise CheckpointError(
            'this model was loaded with quantise="keep", so its files hold it as it is: copy them, '
            "or load it without quantise= and save the decoded weights"
        )
    if packed and dtype != model.dtype:
        raise CheckpointError(
            f"a quantised model is saved as it is, and this one computes in {model.dtype}: leave "
            "out dtype, or load the model with that dtype"
        )
    if not packed:
        _refuse_incomplete_model(model)
    _refuse_shards(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if packed:
        save_packed(model, folder / SINGLE)
        config = {"quantization_config": quantisation_config(next(iter(packed.values())))}
        write_config(model.config, folder, dtype, **config)
        return
    tensors = {
        published: part.to(dtype=dtype, device="cpu").contiguous()
        for name, parameter in model.state_dict().items()
        for published, part in published_tensors(name, parameter)
    }
    with whole_file(folder / SINGLE, error=CheckpointError) as part:
        save_file(tensors, part, metadata={"format": "pt"})
    write_config(model.config, folder, dtype)


def write_config(config: Qwen3Config, folder: Path, dtype: torch.dtype, **more: object) -> None:
    """Write the config.json of a checkpoint whose weights have this dtype, with `more` entries.

    Raises:
        CheckpointError: the file cannot be written.
    """
    fields = config.to_dict() | {"torch_dtype": str(dtype).removeprefix("torch.")} | more
    text = json.dumps(fields, indent=2)
    write_text(folder / "config.json", f"{text}\n", error=CheckpointError)


def _refuse_adapters(model: Qwen3) -> None:
    if any(isinstance(module, Adapted) for module in model.modules()):
        raise CheckpointError(
            "the model has adapters beside its weights, which are not saved with them: load the "
            "base model with adapter=, which adds them to the weights, and save that"
        )


def _refuse_incomplete_model(model: Qwen3) -> None:
    state = model.state_dict()
    for name in Qwen3(model.config, device="meta").state_dict():
        if name not in state or state[name].is_meta:
            raise CheckpointError(
                f"{name} is not in memory in full precision, so a streamed model cannot be "
                "saved: load the model without memory="
            )


def _refuse_shards(folder: Path) -> None:
    if (index := folder / INDEX).exists():
        raise CheckpointError(
            f"{index} lists a checkpoint in shards, and a folder with two models is ambiguous: "
            "choose another folder, or remove the index and its shards"
        )
