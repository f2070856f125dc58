"""Loads a model from a folder, an embedded model or the hub: in memory, streamed or quantised.

The tensors must match the configuration exactly: a missing, surplus or misshapen tensor is an
error, and so is a NaN or infinite weight. Pickle files are never opened. Tensors are read one at a
time, so peak memory is about one copy of the weights. They are not mapped from their files: a file
that changes later changes no number and cannot kill the process.
"""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qwen3lab.checkpoints.decoded_reader import DecodedReader
from qwen3lab.checkpoints.folders import ADAPTER_CONFIG, find_folder
from qwen3lab.checkpoints.formats.opening import format_of
from qwen3lab.checkpoints.formats.packed_format import PackedFormat
from qwen3lab.checkpoints.gguf_folder import gguf_of
from qwen3lab.checkpoints.lora import AdaptedTensors, Adapter
from qwen3lab.checkpoints.modules_in_memory import check_modules, require_model
from qwen3lab.checkpoints.packed_writer import saved_kind
from qwen3lab.checkpoints.safetensors_reader import (
    IN_MEMORY,
    CheckpointReader,
    StoredTensors,
    TensorsInMemory,
    TensorSource,
)
from qwen3lab.checkpoints.tensor_names import OUTSIDE_BLOCKS
from qwen3lab.checkpoints.tensor_plan import (
    as_stored,
    assign,
    check_depth,
    copy_parts,
    plan_tensors,
    stored_dtype,
)
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.dtypes import DTYPES, default_dtype, device_of, dtype_of
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CheckpointError
from qwen3lab.model.transformer import Qwen3
from qwen3lab.quantisation.packed_matrices import KINDS, make_packer
from qwen3lab.quantisation.quantised_model import open_quantised
from qwen3lab.quantisation.saved_model import open_saved
from qwen3lab.streaming.streamed_model import bytes_of, open_streamed


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model, its configuration, and the folder and name that it was loaded from.

    Attributes:
        stored_as: the format of weights that were decoded, such as "GPTQ, 4 bits in groups of 128";
            empty if they are read as stored.
    """

    config: Qwen3Config
    model: Qwen3
    folder: Path
    name: str
    stored_as: str = ""


def open_checkpoint(
    name: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    memory: str | int | None = None,
    quantise: str | None = None,
    adapter: str | Path | None = None,
) -> Checkpoint:
    """Find and load a model.

    Args:
        name: a local folder, an embedded model, or a hub id, tried in this order. With a
            revision, embedded models are tried first, since local folders have no revisions.
        device: of the weights.
        dtype: of the weights. None means, on a CPU, what `device.dtypes.default_dtype` says, or
            bfloat16 with `quantise` (its fast kernels need bfloat16 activations), and elsewhere the
            dtype that config.json states, or else that of the embedding.
        revision: branch, tag or commit on the hub; an embedded model's `embedded_revisions`.
        memory: limit for the weights, such as "8GB"; blocks and experts beyond the limit are
            read again from disk in every forward pass.
        quantise: "int8" or "int4"; quantises the matrices inside the blocks.
        adapter: a folder or hub id of a LoRA adapter, which is added to the weights.

    Raises:
        CheckpointError: no such model or adapter, incomplete or damaged files, or `memory` is
            below the minimum.
        ConfigError: the model is not a Qwen3.
        DtypeError: an unknown dtype.
        DeviceError: a device that this machine does not have.
    """
    dtype, device = dtype_of(dtype), device_of(device)
    _check_options(memory, quantise)
    find_described(name, revision=revision)
    folder = find_folder(name, revision=revision)
    if dtype is None and device.type == "cpu" and not _saved_as(folder):
        dtype = torch.bfloat16 if quantise else _cpu_dtype(folder)
    found_adapter = None if adapter is None else Adapter.open(find_folder(adapter))
    model = load_model(
        folder, device=device, dtype=dtype, memory=memory, quantise=quantise, adapter=found_adapter
    )
    full_name = f"{name}@{revision}" if revision else str(name)
    return Checkpoint(model.config, model, folder, full_name, _stored_as(folder, name))


def _cpu_dtype(folder: Path) -> torch.dtype:
    """The dtype of a folder's model on a CPU unless one is given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `load_model` reads the config again, and warns.
        config, stated = _read_config(folder)
    cpu = torch.device("cpu")
    if default_dtype(cpu, torch.bfloat16, config.n_params) == torch.float32:
        return torch.float32  # Whatever the folder holds.
    weights, embedding = open_tensors_of(folder), OUTSIDE_BLOCKS["embed.weight"]
    stored = weights.dtype(embedding) if embedding in weights.names() else torch.float32
    is_mixed = stated is not None and stated != str(stored).removeprefix("torch.")
    return torch.float32 if is_mixed else default_dtype(cpu, stored, config.n_params)


def find_described(name: str | Path, *, revision: str | None = None) -> Path:
    """The folder of a model that can be loaded, with its config and tokenizer, without weights.

    Of a model of the hub only these small files are fetched, so that a model which cannot be loaded
    is refused before its weights are downloaded.

    Args:
        name: a local folder, an embedded model, or a hub id.
        revision: branch, tag or commit on the hub; an embedded model's `embedded_revisions`.

    Raises:
        CheckpointError: no such model, an adapter, or quantised weights.
        ConfigError: the model is not a Qwen3.
    """
    folder = find_folder(name, revision=revision, weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `load_model` reads the config again, and warns.
        _read_config(folder)
    return folder


def load_model(
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    memory: str | int | None = None,
    quantise: str | None = None,
    adapter: Adapter | None = None,
) -> Qwen3:
    """Build the model of a folder and read its weights.

    Peak memory is about one copy of the weights. With `memory`, blocks beyond the limit are read
    when the forward pass reaches them. With `quantise`, matrices are quantised one at a time while
    they are read.

    Raises:
        CheckpointError: a tensor is missing, surplus, of another shape, unreadable, or has a value
            that is NaN or infinite (of streamed blocks: when they are first read); both `memory`
            and `quantise` are given.
        ConfigError: the folder's config.json does not describe a Qwen3.
        DtypeError: an unknown dtype.
        DeviceError: a device that this machine does not have.
    """
    folder, device = Path(folder), device_of(device)
    _check_options(memory, quantise)
    config, stated = _read_config(folder)
    if saved := _saved_as(folder):
        if adapter is not None:
            raise CheckpointError(
                f"{folder} holds a quantised model that qwen3lab saved, to which no adapter is "
                "added: load the unquantised model with adapter= and quantise="
            )
        kind = _kind_as_saved(folder, saved, stated, dtype_of(dtype), memory, quantise)
        return open_saved(config, folder, saved, device=device, dtype=kind)
    weights, source = open_tensors_of(folder), str(folder)
    check_depth(config, weights, source)
    if adapter is not None:
        weights = AdaptedTensors(weights, adapter)
    kind = dtype_of(dtype) or stored_dtype(weights, source, stated)
    config = as_stored(config, weights, source)
    if memory is None and quantise is None:
        return _load_into_memory(config, weights, device=device, dtype=kind, source=source)
    options: dict[str, Any] = {"device": device, "dtype": kind, "source": source}
    if quantise is not None:
        return open_quantised(config, weights, quantise, **options)
    assert memory is not None
    return open_streamed(config, weights, memory=bytes_of(memory), **options)


def from_transformers(hf_model: Any) -> Qwen3:
    """Copy a `transformers` Qwen3 or Qwen3-MoE model, as it is after `eval()`.

    Raises:
        CheckpointError: the model's tensors do not match its config, or it computes something else
            than config and tensors say.
        ConfigError: the model is not a Qwen3.

    Warns:
        UserWarning: hooks or dropout, which the copy does not have.
    """
    hf_model = require_model(hf_model)
    config = Qwen3Config.from_dict(hf_model.config.to_dict())
    weights = TensorsInMemory(hf_model.state_dict())
    dtype = stored_dtype(weights, IN_MEMORY)
    device = next(hf_model.parameters()).device
    config = as_stored(config, weights, IN_MEMORY)
    model = _load_into_memory(config, weights, device=device, dtype=dtype, source=IN_MEMORY)
    check_modules(hf_model)  # Last: names of tensors explain a wrapper or an adapter better.
    return model


@without_grad
def _load_into_memory(
    config: Qwen3Config,
    weights: TensorSource,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    source: str,
) -> Qwen3:
    model = Qwen3(config, device="meta")
    for name, parts in plan_tensors(model, weights, source).items():
        out = torch.empty(model.get_parameter(name).shape, device=device, dtype=dtype)
        assign(model, name, copy_parts(weights, parts, out))
    return model.requires_grad_(True)


def base_and_adapter(
    name: str | Path, adapter: str | Path | None, *, revision: str | None = None
) -> tuple[str | Path, str | Path | None]:
    """The base model and the adapter that are meant by a name, which may be that of an adapter.

    Raises:
        CheckpointError: no such model or adapter, or an adapter that names no base model.
    """
    folder = find_folder(name, revision=revision, weights=False)
    if not (folder / ADAPTER_CONFIG).exists() or (folder / "config.json").exists():
        return name, adapter
    if adapter is not None:
        raise CheckpointError(
            f"{name} is an adapter itself: give its base model, and one of both as adapter="
        )
    base = Adapter.open(find_folder(name, revision=revision)).base
    if not base:
        raise CheckpointError(
            f"the adapter {name} does not name its base model: load that model, and give the "
            "adapter as adapter="
        )
    return base, name


def _check_options(memory: str | int | None, quantise: str | None) -> None:
    if memory is not None and quantise is not None:
        raise CheckpointError(
            "memory and quantise cannot be combined: choose memory (streamed weights are exact) "
            "or quantise (quantised weights are fast)"
        )
    if memory is not None:
        bytes_of(memory)
    if quantise is not None:
        make_packer(quantise)


def _read_config(folder: Path) -> tuple[Qwen3Config, object]:
    """The config of a folder, and the dtype that it states; refuses what cannot be loaded."""
    if (adapter := folder / ADAPTER_CONFIG).exists():
        raise CheckpointError(
            f"{adapter} describes an adapter such as LoRA beside the config of a model: move the "
            "adapter's files to a folder of their own, and give that as adapter="
        )
    config = Qwen3Config.from_file(folder)
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if fields.get("quantization_config") is not None and _saved_as(folder) is None:
        format_of(fields["quantization_config"], str(folder))
    stated = fields.get("dtype")
    return config, fields.get("torch_dtype") if stated is None else stated


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


def _stored_as(folder: Path, name: str | Path) -> str:
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
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    quantised = fields.get("quantization_config")
    if quantised is None or _saved_as(folder) is not None:
        return None
    return format_of(quantised, str(folder))


def _saved_as(folder: Path) -> str | None:
    """The kind of a quantised model that `save_checkpoint` wrote; None for any other folder."""
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = saved_kind(fields.get("quantization_config"), folder)
    if kind is not None and kind not in KINDS:
        raise CheckpointError(
            f"config.json in {folder} gives the quantisation {one_line(kind, width=60)!r}: "
            f"expected one of {', '.join(KINDS)}"
        )
    return kind


def _kind_as_saved(
    folder: Path,
    saved: str,
    stated: object,
    dtype: torch.dtype | None,
    memory: str | int | None,
    quantise: str | None,
) -> torch.dtype:
    """The dtype of a saved quantised model, which is loaded as it is or not at all."""
    if memory is not None:
        raise CheckpointError(
            f"{folder} holds a quantised model, and only unquantised ones can be streamed: load it "
            "without memory="
        )
    if quantise not in (None, saved):
        raise CheckpointError(
            f"{folder} holds weights in {saved}, which are not quantised to {quantise} again: load "
            "it without quantise=, or the unquantised model"
        )
    if not isinstance(stated, str) or stated not in DTYPES:
        raise CheckpointError(
            f"config.json in {folder} does not say in which dtype the quantised model computes: "
            f"expected torch_dtype, one of {', '.join(DTYPES)}"
        )
    if dtype not in (None, DTYPES[stated]):
        raise CheckpointError(
            f"{folder} holds a quantised model that computes in {stated}: load it without dtype=, "
            "or quantise the unquantised model with this dtype"
        )
    return DTYPES[stated]
