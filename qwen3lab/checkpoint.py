"""Weights from safetensors: embedded models, local folders, the hub.

Every tensor is accounted for: what the model needs must be there in the right shape, and
nothing else may be. Pickle files are never opened. A tensor is read when it is asked for, so
that no more than one copy of the weights is in memory.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from qwen3lab.config import Qwen3Config
from qwen3lab.model import Qwen3
from qwen3lab.weights import CheckpointError, InMemory, Source, Weights

EMBEDDED = Path(__file__).parent / "tiny" / "models"
WANTED_FILES = ("config.json", "generation_config.json", "tokenizer*", "vocab.json", "merges.txt")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Our module paths and the published names; `{l}` is the layer, `{e}` the expert.
OUTER = {
    "embed.weight": "model.embed_tokens.weight",
    "ln_final.weight": "model.norm.weight",
    "unembed.weight": "lm_head.weight",
}
IN_BLOCK = {
    "ln1.weight": "input_layernorm.weight",
    "ln2.weight": "post_attention_layernorm.weight",
    **{f"attn.{x}.weight": f"self_attn.{x}_proj.weight" for x in "qkvo"},
    **{f"attn.{x}_norm.weight": f"self_attn.{x}_norm.weight" for x in "qk"},
    **{f"mlp.{x}.weight": f"mlp.{x}_proj.weight" for x in ("gate", "up", "down")},
    "mlp.router.weight": "mlp.gate.weight",
}
EXPERTS = {"mlp.gate_up": ("gate_proj", "up_proj"), "mlp.down": ("down_proj",)}
FUSED = {"mlp.gate_up": "mlp.experts.gate_up_proj", "mlp.down": "mlp.experts.down_proj"}


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


def open_checkpoint(
    name: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
) -> Checkpoint:
    """Find and load a model.

    Args:
        name: a local folder, an embedded model, or a hub id, tried in this order.
        device: where the weights go.
        dtype: of the weights; None takes float32 on a CPU and the stored dtype elsewhere.
        revision: branch, tag or commit on the hub.

    Raises:
        CheckpointError: no such model, or its files are incomplete or damaged.
        ConfigError: the model is not a Qwen3.
    """
    folder = find_folder(name, revision=revision)
    if dtype is None and torch.device(device).type == "cpu":
        dtype = torch.float32
    model = load_model(folder, device=device, dtype=dtype)
    return Checkpoint(model.config, model, folder, str(name))


def find_folder(name: str | Path, *, revision: str | None = None) -> Path:
    """The folder that holds a model's files, downloaded from the hub where need be.

    Raises:
        CheckpointError: no such folder or model, or the hub cannot be reached.
    """
    text, folder = str(name), Path(name).expanduser()
    if folder.is_dir():
        return folder
    if text in embedded_models():
        return EMBEDDED / text
    if folder.is_absolute() or text.startswith((".", "~")) or text.count("/") != 1:
        raise CheckpointError(
            f"{text!r} is neither a folder nor an embedded model "
            f"({', '.join(embedded_models()) or 'none is installed'}): give one of these, or a "
            "hub id such as 'Qwen/Qwen3-0.6B'"
        )
    return _download(text, revision)


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
) -> Qwen3:
    """Build the model of a folder and fill it; peak memory is about one copy of the weights.

    Raises:
        CheckpointError: a tensor is missing, surplus, of another shape or unreadable.
        ConfigError: the folder's config.json is not that of a Qwen3.
    """
    folder = Path(folder)
    config = Qwen3Config.from_file(folder)
    _refuse_quantised(folder)
    weights = Weights(folder)
    return _filled(config, weights, device=device, dtype=_dtype(dtype), source=str(folder))


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
    """Write config.json and model.safetensors as published ones are, for `transformers` too."""
    folder, dtype = Path(folder), _dtype(dtype) or model.dtype
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        published: part.to(dtype=dtype, device="cpu").contiguous()
        for name, parameter in model.state_dict().items()
        for published, part in _published(name, parameter)
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    fields = model.config.to_dict() | {"torch_dtype": str(dtype).removeprefix("torch.")}
    text = json.dumps(fields, indent=2)
    (folder / "config.json").write_text(f"{text}\n", encoding="utf-8")


def published_name(name: str) -> str:
    """The published name of one of our parameters, `{e}` standing for the expert."""
    if name in OUTER:
        return OUTER[name]
    _, layer, inner = name.split(".", 2)
    if inner in EXPERTS:
        return f"model.layers.{layer}.mlp.experts.{{e}}.{'|'.join(EXPERTS[inner])}.weight"
    return f"model.layers.{layer}.{IN_BLOCK[inner]}"


def _published(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """One of our tensors as the published ones that it is made of."""
    _, layer, inner = name.split(".", 2) if name.startswith("blocks.") else ("", "", name)
    if inner not in EXPERTS:
        yield published_name(name), value
        return
    for expert, whole in enumerate(value):
        for part, piece in zip(EXPERTS[inner], whole.chunk(len(EXPERTS[inner])), strict=True):
            # Cloned: the file format refuses tensors that share memory.
            yield f"model.layers.{layer}.mlp.experts.{expert}.{part}.weight", piece.clone()


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
    left = weights.names()
    for name, parameter in model.state_dict().items():
        parts = _parts(name, config, left)
        for part in parts:
            _check(part, name, tuple(parameter.shape), len(parts), weights, source)
        loaded = _assembled(weights, parts, parameter, device, dtype)
        left.difference_update(parts)
        _assign(model, name, loaded)
    if config.tied_embeddings:
        left.discard("lm_head.weight")
    if left:
        raise CheckpointError(
            f"{source} holds {sorted(left)[0]}, which a model of this config.json does not have"
            f" ({len(left)} such tensors in all): check that config and weights belong together"
        )
    return model.requires_grad_(True)


def _parts(name: str, config: Qwen3Config, available: set[str]) -> list[str]:
    """Published names that make up one of our parameters, in order."""
    _, layer, inner = name.split(".", 2) if name.startswith("blocks.") else ("", "", name)
    if inner not in EXPERTS:
        return [published_name(name)]
    fused = f"model.layers.{layer}.{FUSED[inner]}"
    if fused in available:
        return [fused]
    return [
        f"model.layers.{layer}.mlp.experts.{expert}.{part}.weight"
        for expert in range(config.n_experts)
        for part in EXPERTS[inner]
    ]


def _check(
    part: str, name: str, shape: tuple[int, ...], n_parts: int, weights: Source, source: str
) -> None:
    if part not in weights.names():
        raise CheckpointError(f"{part} is missing from {source}: fetch the model again")
    expected = shape
    if n_parts > 1:
        expected = (shape[0] * shape[1] // n_parts, shape[2])
    found = weights.shape(part)
    if found != expected:
        raise CheckpointError(
            f"{part} in {source} has shape {found}: config.json asks for {expected}"
        )


def _assembled(
    weights: Source,
    parts: list[str],
    like: Tensor,
    device: torch.device | str,
    dtype: torch.dtype | None,
) -> Tensor:
    """One of our tensors out of its published parts, without a second copy of all of them."""
    first = weights.tensor(parts[0])
    kind = dtype or first.dtype
    if len(parts) == 1:
        return first.to(device=device, dtype=kind)
    out = torch.empty(like.shape, device=device, dtype=kind)
    rows = out.flatten(0, 1)
    step = rows.shape[0] // len(parts)
    for number, part in enumerate(parts):
        rows[number * step : (number + 1) * step] = weights.tensor(part)
    return out


def _assign(model: Qwen3, name: str, value: Tensor) -> None:
    path, leaf = name.rpartition(".")[::2]
    module = model.get_submodule(path)
    setattr(module, leaf, torch.nn.Parameter(value))


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise CheckpointError(f"dtype {dtype!r} is unknown: choose from {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _refuse_quantised(folder: Path) -> None:
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if quantised := fields.get("quantization_config"):
        method = quantised.get("quant_method", "some method")
        raise CheckpointError(
            f"{folder} holds weights quantised with {method}: load the model's unquantised release"
        )
