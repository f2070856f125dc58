"""Loads a model from a folder, an embedded model or the hub: in memory, streamed or quantised.

The tensors must match the configuration exactly: a missing, surplus or misshapen tensor is an
error, and so is a NaN or infinite weight. Pickle files are never opened. Tensors are read one at a
time, so peak memory is about one copy of the weights. They are not mapped from their files: a file
that changes later changes no number and cannot kill the process. Only shared weights are mapped,
from a file of our own that nothing changes.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from qwen3lab.checkpoints.adapted_tensors import AdaptedTensors, Strong
from qwen3lab.checkpoints.folder_contents import (
    cpu_dtype,
    decoded_from,
    open_tensors_of,
    read_config,
    saved_as,
)
from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.checkpoints.given_adapters import AnyAdapters, open_adapters
from qwen3lab.checkpoints.modules_in_memory import check_modules, require_model
from qwen3lab.checkpoints.packed_tensors import PackedSource, kept_bytes
from qwen3lab.checkpoints.safetensors_reader import (
    IN_MEMORY,
    StoredTensors,
    TensorsInMemory,
    TensorSource,
)
from qwen3lab.checkpoints.shared_weights import (
    map_shared,
    shared_file,
    shared_folder,
    write_shared,
)
from qwen3lab.checkpoints.tensor_plan import (
    as_stored,
    assign,
    check_depth,
    copy_parts,
    plan_tensors,
    stored_dtype,
)
from qwen3lab.config.placement import Placement, choose
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.dtypes import DTYPES, device_of, dtype_of
from qwen3lab.device.free_memory import free_host_bytes
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.errors import CheckpointError
from qwen3lab.model.transformer import Qwen3
from qwen3lab.quantisation.kept_model import KEEP, open_kept
from qwen3lab.quantisation.packed_matrices import KINDS, make_packer
from qwen3lab.quantisation.quantised_model import open_quantised
from qwen3lab.quantisation.saved_model import open_saved
from qwen3lab.streaming.host_tensors import HostTensors
from qwen3lab.streaming.streamed_model import bytes_of, open_streamed
from qwen3lab.translation import tr

AUTO = "auto"
"""Allows a quantisation where the limit of memory asks for it."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model, its configuration, and the folder and name that it was loaded from.

    Attributes:
        stored_as: the format of weights that were decoded, such as "GPTQ, 4 bits in groups of 128";
            empty if they are read as stored.
        adapters: that were added to the weights.
        placed: how the weights are held within a limit of memory, and why, as one sentence; empty
            without a limit.
    """

    config: Qwen3Config
    model: Qwen3
    folder: Path
    name: str
    stored_as: str = ""
    adapters: tuple[Strong, ...] = ()
    placed: str = ""


def open_checkpoint(
    name: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    memory: str | int | None = None,
    quantise: str | None = None,
    adapter: AnyAdapters | None = None,
    source: str | None = None,
    pick: bool = False,
    shared: str | Path | None = None,
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
        quantise: "int8" or "int4"; quantises the matrices inside the blocks. "keep" leaves those
            of a quantised checkpoint packed. "auto", with `pick`.
        adapter: a folder or hub id of a LoRA adapter, which is added to the weights; or several, or
            several with strengths.
        source: where ids are fetched from, of `checkpoints.hub.SOURCES`.
        pick: with `memory`, pick the way: whole if that fits beside a recording, else kept packed
            if they are and that fits, else quantised if `quantise` is "auto", else streamed, from
            the host's memory if that holds the weights.
        shared: of `load_model`.

    Raises:
        CheckpointError: no such model or adapter, incomplete or damaged files, or `memory` is
            below the minimum.
        ConfigError: the model is not a Qwen3.
        DtypeError: an unknown dtype.
        DeviceError: a device that this machine does not have.
    """
    dtype, device = dtype_of(dtype), device_of(device)
    picks = pick and memory is not None and quantise in (None, AUTO)
    _check_options(memory, None if picks and quantise == AUTO else quantise)
    if picks and quantise == AUTO:
        make_packer("int8")  # Names the package to install, if that is missing.
    find_described(name, revision=revision, source=source)
    folder = find_folder(name, revision=revision, source=source)
    placement = None
    if picks and not saved_as(folder):
        placement = placement_of(folder, memory or 0, device=device, dtype=dtype, quantise=quantise)
        memory, quantise = how_to_load(placement)
    elif picks:
        quantise = None  # The model is quantised already, and refused or loaded as it is.
    if dtype is None and device.type == "cpu" and not saved_as(folder):
        dtype = torch.bfloat16 if quantise else cpu_dtype(folder)
    adapters = open_adapters(adapter, source=source)
    model = load_model(
        folder,
        device=device,
        dtype=dtype,
        memory=memory,
        quantise=quantise,
        adapters=adapters,
        placement=placement,
        shared=shared,
    )
    full_name = f"{name}@{revision}" if revision else str(name)
    placed = placement.sentence if placement else ""
    stored_as = decoded_from(folder, name)
    return Checkpoint(model.config, model, folder, full_name, stored_as, adapters, placed)


def placement_of(
    folder: Path,
    memory: str | int,
    *,
    device: torch.device,
    dtype: torch.dtype | None,
    quantise: str | None,
) -> Placement:
    """How a folder's model is best held within a limit of memory.

    Args:
        folder: of the checkpoint.
        memory: the limit, such as "24GB".
        device: of the weights.
        dtype: of the weights; None as in `open_checkpoint`.
        quantise: "auto" allows int8 and int4, if torchao is installed; None keeps weights exact.
    """
    kept = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `load_model` reads the folder again, and warns.
        config, stated = read_config(folder)
        weights = open_tensors_of(folder)
        check_depth(config, weights, str(folder))
        config = as_stored(config, weights, str(folder))
        if dtype is None and device.type == "cpu":
            dtype = cpu_dtype(folder)
        elif dtype is None:
            dtype = stored_dtype(weights, str(folder), stated)
        if isinstance(weights, PackedSource):
            kept = kept_bytes(weights, dtype)
    can_quantise = find_spec("torchao") is not None
    return choose(
        config,
        bytes_of(memory),
        dtype=str(dtype).removeprefix("torch."),
        kinds=tuple(KINDS) if quantise == AUTO else (),
        host_bytes=None if device.type == "cpu" else free_host_bytes(),
        available=tuple(KINDS) if quantise is None and can_quantise else (),
        kept=kept,
    )


def how_to_load(placement: Placement) -> tuple[int | None, str | None]:
    """The arguments `memory` and `quantise` of `load_model` for a placement."""
    if placement.way == "whole":
        return None, None
    if placement.way in KINDS:
        return None, placement.way
    if placement.way == "kept":
        return None, KEEP
    return placement.weights_limit, None


def find_described(
    name: str | Path, *, revision: str | None = None, source: str | None = None
) -> Path:
    """The folder of a model that can be loaded, with its config and tokenizer, without weights.

    Of a model of the hub only these small files are fetched, so that a model which cannot be loaded
    is refused before its weights are downloaded.

    Args:
        name: a local folder, an embedded model, or a hub id.
        revision: branch, tag or commit on the hub; an embedded model's `embedded_revisions`.
        source: where ids are fetched from, of `checkpoints.hub.SOURCES`.

    Raises:
        CheckpointError: no such model, an adapter, or quantised weights.
        ConfigError: the model is not a Qwen3.
    """
    folder = find_folder(name, revision=revision, weights=False, source=source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `load_model` reads the config again, and warns.
        read_config(folder)
    return folder


def load_model(
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    memory: str | int | None = None,
    quantise: str | None = None,
    adapters: Sequence[Strong] = (),
    placement: Placement | None = None,
    shared: str | Path | None = None,
) -> Qwen3:
    """Build the model of a folder and read its weights.

    Peak memory is about one copy of the weights. With `memory`, blocks beyond the limit are read
    when the forward pass reaches them. With `quantise`, matrices are quantised one at a time while
    they are read. A `placement` of way "host" keeps streamed weights in the host's memory. With
    `shared`, or where QWEN3LAB_SHARED_WEIGHTS names a folder, a model that is loaded whole on a CPU
    has its weights in a file of that folder, which all processes map.

    Raises:
        CheckpointError: a tensor is missing, surplus, of another shape, unreadable, or has a value
            that is NaN or infinite (of streamed blocks: when they are first read); both `memory`
            and `quantise` are given, or `shared` for a model that is not loaded whole on a CPU.
        ConfigError: the folder's config.json does not describe a Qwen3.
        DtypeError: an unknown dtype.
        DeviceError: a device that this machine does not have.
    """
    folder, device = Path(folder), device_of(device)
    _check_options(memory, quantise)
    config, stated = read_config(folder)
    whole = memory is None and quantise is None and not adapters and not saved_as(folder)
    _check_shared(shared, device, whole)
    if saved := saved_as(folder):
        if adapters:
            raise CheckpointError(
                tr(
                    "{folder} holds a quantised model that qwen3lab saved, to which no "
                    "adapter is added as it is read: load it without adapter=, and keep the "
                    "adapter apart with lab.adapters; or load the unquantised model with "
                    "adapter= and quantise=",
                    folder=folder,
                )
            )
        kind = _kind_as_saved(folder, saved, stated, dtype_of(dtype), memory, quantise)
        return open_saved(config, folder, saved, device=device, dtype=kind)
    weights, source = open_tensors_of(folder), str(folder)
    check_depth(config, weights, source)
    if quantise == KEEP:
        packed = _kept_source(weights, adapters, source)
        kind = dtype_of(dtype) or stored_dtype(packed, source, stated)
        config = as_stored(config, packed, source)
        return open_kept(config, packed, device=device, dtype=kind, source=source)
    if adapters:
        weights = AdaptedTensors(weights, adapters, config.n_experts)
    kind = dtype_of(dtype) or stored_dtype(weights, source, stated)
    config = as_stored(config, weights, source)
    if whole and device.type == "cpu" and (common := shared_folder(shared)):
        return _load_shared(config, weights, folder, common, kind)
    if memory is None and quantise is None:
        return _load_into_memory(config, weights, device=device, dtype=kind, source=source)
    options: dict[str, Any] = {"device": device, "dtype": kind, "source": source}
    if quantise is not None:
        return open_quantised(config, weights, quantise, **options)
    assert memory is not None
    if placement is not None and placement.way == "host":
        weights = HostTensors(weights, kind, only_experts=placement.holds_all_but_experts)
    return open_streamed(config, weights, memory=bytes_of(memory), **options)


def _kept_source(weights: StoredTensors, adapters: Sequence[Strong], source: str) -> PackedSource:
    """The packed tensors of a checkpoint, to which no adapter is added."""
    if not isinstance(weights, PackedSource):
        raise CheckpointError(
            tr(
                '{source} holds weights that are not packed, so quantise="keep" has '
                "nothing to keep: leave it out, or choose int8 or int4",
                source=source,
            )
        )
    if adapters:
        raise CheckpointError(
            tr(
                "an adapter cannot be added to weights that stay packed: load the model "
                "without adapter= and keep the adapter apart with lab.adapters, or "
                'without quantise="keep"'
            )
        )
    return weights


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
    named = {"architectures": [type(hf_model).__name__]}  # A new model's config does not say it.
    config = Qwen3Config.from_dict(hf_model.config.to_dict() | named)
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


def _load_shared(
    config: Qwen3Config, weights: Any, folder: Path, common: Path, dtype: torch.dtype
) -> Qwen3:
    """A model whose weights are mapped from a file that all processes share."""
    model, source = Qwen3(config, device="meta"), str(folder)
    plan_tensors(model, weights, source)
    like = dict(model.named_parameters())
    path = shared_file(common, folder, weights.file_stamps(), like, dtype)
    if not path.exists():
        loaded = _load_into_memory(config, weights, device="cpu", dtype=dtype, source=source)
        if not write_shared(path, dict(loaded.named_parameters())):
            return loaded
    for name, tensor in map_shared(path).items():
        assign(model, name, tensor)
    return model.requires_grad_(True)


def _check_shared(shared: str | Path | None, device: torch.device, whole: bool) -> None:
    """Refuse to share what cannot be; the folder of the environment is passed over then."""
    if shared is not None and not (whole and device.type == "cpu"):
        raise CheckpointError(
            tr(
                "shared= is for a model that is loaded whole on a CPU, without memory=, quantise= "
                "and adapter=: leave it out, or the others"
            )
        )


def _check_options(memory: str | int | None, quantise: str | None) -> None:
    if memory is not None and quantise is not None:
        raise CheckpointError(
            tr(
                "memory and quantise cannot be combined: choose memory (streamed weights "
                'are exact) or quantise (quantised weights are fast), or quantise="auto" '
                "with memory in load, which quantises if the memory asks for it"
            )
        )
    if quantise == AUTO:
        raise CheckpointError(
            tr(
                'quantise="auto" needs a limit: give memory=, such as "24GB", or choose '
                "int8 or int4"
            )
        )
    if memory is not None:
        bytes_of(memory)
    if quantise not in (None, KEEP):
        make_packer(quantise)


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
            tr(
                "{folder} holds a quantised model, and only unquantised ones can be "
                "streamed: load it without memory=",
                folder=folder,
            )
        )
    if quantise not in (None, saved, KEEP):
        raise CheckpointError(
            tr(
                "{folder} holds weights in {saved}, which are not quantised to "
                "{quantise} again: load it without quantise=, or the unquantised model",
                folder=folder,
                saved=saved,
                quantise=quantise,
            )
        )
    if not isinstance(stated, str) or stated not in DTYPES:
        raise CheckpointError(
            tr(
                "config.json in {folder} does not say in which dtype the quantised model "
                "computes: expected torch_dtype, one of {dtypes}",
                folder=folder,
                dtypes=", ".join(DTYPES),
            )
        )
    if dtype not in (None, DTYPES[stated]):
        raise CheckpointError(
            tr(
                "{folder} holds a quantised model that computes in {stated}: load it "
                "without dtype=, or quantise the unquantised model with this dtype",
                folder=folder,
                stated=stated,
            )
        )
    return DTYPES[stated]
