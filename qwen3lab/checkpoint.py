"""Weights from safetensors: embedded models, local folders, the hub.

Every tensor is accounted for: what the model needs must be there in the right shape, and
nothing else may be. Pickle files are never opened. A tensor is read when it is asked for, so
that no more than one copy of the weights is in memory.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from qwen3lab.config import Qwen3Config
from qwen3lab.filling import assembled, assign, plan
from qwen3lab.model import Qwen3
from qwen3lab.published import OUTER, as_published
from qwen3lab.quantised import quantised_model
from qwen3lab.streaming import bytes_of, streamed_model
from qwen3lab.weights import INDEX, CheckpointError, InMemory, Source, Weights

EMBEDDED = Path(__file__).parent / "tiny" / "models"
WANTED_FILES = ("config.json", "generation_config.json", "tokenizer*", "vocab.json", "merges.txt")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Checkpoint:
    """A model that has been loaded, and where it came from."""

    config: Qwen3Config
    model: Qwen3
    folder: Path
    name: str


def embedded_models() -> list[str]:
    """Names of the models that ship inside the package."""
    return sorted(path.parent.name for path in EMBEDDED.glob("*/config.json"))


def embedded_revisions(name: str) -> list[str]:
    """Earlier states of an embedded model, such as "step250", in the order of its training."""
    found = [path.parent.name for path in (EMBEDDED / name).glob("step*/config.json")]
    return sorted(found, key=lambda revision: int(revision.removeprefix("step")))


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


def find_folder(name: str | Path, *, revision: str | None = None) -> Path:
    """The folder that holds a model's files, downloaded from the hub where need be.

    Raises:
        CheckpointError: no such folder, model or revision, or the hub cannot be reached.
    """
    text, folder = str(name), Path(name).expanduser()
    if revision is not None and text in embedded_models():
        return _earlier(text, revision)
    if folder.is_dir():
        return _without_revision(folder, revision)
    if text in embedded_models():
        return EMBEDDED / text
    if folder.is_absolute() or text.startswith((".", "~")) or text.count("/") != 1:
        raise CheckpointError(
            f"{text!r} is neither a folder nor an embedded model "
            f"({', '.join(embedded_models()) or 'none is installed'}): give one of these, or a "
            "hub id such as 'Qwen/Qwen3-0.6B'"
        )
    return _download(text, revision)


def _without_revision(folder: Path, revision: str | None) -> Path:
    if revision is not None:
        raise CheckpointError(
            f"{folder} is a folder here, which has no revision {revision!r}: leave the revision "
            "out, or give the path of the folder that holds it"
        )
    return folder


def _earlier(name: str, revision: str) -> Path:
    known = embedded_revisions(name)
    if revision not in known:
        raise CheckpointError(
            f"{name} has no revision {revision!r}: choose from {', '.join(known) or 'none'}"
        )
    return EMBEDDED / name / revision


def _download(hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                hub_id,
                revision=revision,
                allow_patterns=[*WANTED_FILES, "*.safetensors", "*.safetensors.index.json"],
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{hub_id} is not in the local cache and could not be fetched from the hub "
            f"({type(error).__name__}): check the name and the network, or give the path of a "
            "folder that holds config.json, tokenizer.json and the safetensors files"
        ) from error


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
    weights, kind = Weights(folder), dtype_of(dtype)
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
        return quantised_model(config, weights, quantise, **options)
    assert memory is not None
    return streamed_model(config, weights, memory=bytes_of(memory), **options)


def from_transformers(hf_model: Any) -> Qwen3:
    """A copy of a `transformers` Qwen3 or Qwen3-MoE model that is in memory.

    Raises:
        CheckpointError: its tensors are not those of its config.
        ConfigError: it is not a Qwen3.
    """
    config = Qwen3Config.from_dict(hf_model.config.to_dict())
    memory = InMemory(hf_model.state_dict())
    device = next(hf_model.parameters()).device
    return _filled(config, memory, device=device, dtype=None, source="the model in memory")


def save_checkpoint(
    model: Qwen3, folder: str | Path, *, dtype: torch.dtype | str | None = None
) -> None:
    """Write config.json and model.safetensors as published ones are, for `transformers` too.

    Raises:
        CheckpointError: not all weights are at hand, as in a streamed or quantised model, or the
            folder holds a checkpoint in shards.
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
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_config(model.config, folder, dtype)


def write_config(config: Qwen3Config, folder: Path, dtype: torch.dtype) -> None:
    """Write the config.json of a checkpoint whose weights have this dtype."""
    fields = config.to_dict() | {"torch_dtype": str(dtype).removeprefix("torch.")}
    text = json.dumps(fields, indent=2)
    (folder / "config.json").write_text(f"{text}\n", encoding="utf-8")


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


@torch.no_grad()
def _filled(
    config: Qwen3Config,
    weights: Source,
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


def dtype_of(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A dtype by its name; None stays None.

    Raises:
        CheckpointError: none of `DTYPES`.
    """
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise CheckpointError(f"dtype {dtype!r} is unknown: choose from {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _refuse_quantised(folder: Path) -> None:
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if quantised := fields.get("quantization_config"):
        is_said = isinstance(quantised, dict) and "quant_method" in quantised
        method = quantised["quant_method"] if is_said else "some method"
        raise CheckpointError(
            f"{folder} holds weights quantised with {method}: load the model's unquantised release"
        )
