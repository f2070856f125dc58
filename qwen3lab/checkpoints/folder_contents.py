"""What the folder of a checkpoint holds: its config, the format of its weights, and its tensors."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch

from qwen3lab.checkpoints.decoded_reader import DecodedReader
from qwen3lab.checkpoints.folders import ADAPTER_CONFIG
from qwen3lab.checkpoints.formats.opening import format_of, quantisation_fields
from qwen3lab.checkpoints.formats.packed_format import PackedFormat
from qwen3lab.checkpoints.gguf_folder import gguf_of
from qwen3lab.checkpoints.packed_writer import saved_kind
from qwen3lab.checkpoints.safetensors_reader import CheckpointReader, StoredTensors
from qwen3lab.checkpoints.tensor_names import OUTSIDE_BLOCKS
from qwen3lab.config.placement import QUANTISED
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.dtypes import default_dtype
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CheckpointError


def read_config(folder: Path) -> tuple[Qwen3Config, object]:
    """The config of a folder, and the dtype that it states; refuses what cannot be loaded."""
    if (adapter := folder / ADAPTER_CONFIG).exists():
        raise CheckpointError(
            f"{adapter} describes an adapter such as LoRA beside the config of a model: move the "
            "adapter's files to a folder of their own, and give that as adapter="
        )
    config = Qwen3Config.from_file(folder)
    fields = _fields(folder)
    quantised = quantisation_fields(fields, str(folder))
    if quantised is not None and saved_as(folder) is None:
        format_of(quantised, str(folder))
    stated = fields.get("dtype")
    return config, fields.get("torch_dtype") if stated is None else stated


def cpu_dtype(folder: Path) -> torch.dtype:
    """The dtype of a folder's model on a CPU unless one is given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `load_model` reads the config again, and warns.
        config, stated = read_config(folder)
    cpu = torch.device("cpu")
    if default_dtype(cpu, torch.bfloat16, config.n_params) == torch.float32:
        return torch.float32  # Whatever the folder holds.
    weights, embedding = open_tensors_of(folder), OUTSIDE_BLOCKS["embed.weight"]
    stored = weights.dtype(embedding) if embedding in weights.names() else torch.float32
    is_mixed = stated is not None and stated != str(stored).removeprefix("torch.")
    return torch.float32 if is_mixed else default_dtype(cpu, stored, config.n_params)


def open_tensors_of(folder: Path) -> StoredTensors:
    """The tensors of a folder; packed ones of a quantised checkpoint are decoded as they are read.

    Raises:
        CheckpointError: files that are missing or damaged, or a format that is not read.
    """
    if (file := gguf_of(folder)) is not None:
        return file
    found = stored_format(folder)
    reader = CheckpointReader(folder)
    return reader if found is None else DecodedReader(reader, found)


def decoded_from(folder: Path, name: str | Path) -> str:
    """The format of weights that were decoded, with a warning of what is not reproduced."""
    if (file := gguf_of(folder)) is not None:
        return file.described
    found = stored_format(folder)
    if found is None:
        return ""
    if found.note:
        warnings.warn(f"{name} was decoded from {found.described}: {found.note}", stacklevel=4)
    return found.described


def stored_format(folder: Path) -> PackedFormat | None:
    """The format of a quantised checkpoint of another library; None for any other folder.

    Raises:
        CheckpointError: a format that is not read.
    """
    fields = _fields(folder)
    quantised = quantisation_fields(fields, str(folder))
    if quantised is None or saved_as(folder) is not None:
        return None
    return format_of(quantised, str(folder))


def saved_as(folder: Path) -> str | None:
    """The kind of a quantised model that `save_checkpoint` wrote; None for any other folder."""
    fields = _fields(folder)
    kind = saved_kind(fields.get("quantization_config"), folder)
    if kind is not None and kind not in QUANTISED:
        raise CheckpointError(
            f"config.json in {folder} gives the quantisation {one_line(kind, width=60)!r}: "
            f"expected one of {', '.join(QUANTISED)}"
        )
    return kind


def _fields(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))
