"""Writes a quantised model as torchao does, so that torchao and `transformers` read it.

Each stack of matrices is a torchao tensor: its parts are tensors of the file, and its kind is an
entry of the file's metadata. Checksums, and what else this package needs, are further entries.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from qwen3lab.checkpoints.tensor_names import FUSED_EXPERTS, published_name, split_name
from qwen3lab.errors import CheckpointError
from qwen3lab.model.transformer import Qwen3
from qwen3lab.storage.atomic_files import whole_file
from qwen3lab.storage.checked_tensors import save_checked

METHOD = "torchao"
"""`quant_method` of `transformers`."""
MARK = "qwen3lab"
"""Entry of config.json and of the file's metadata that only this package writes and reads."""
FORMAT = 1


@runtime_checkable
class Packed(Protocol):
    """A stack of quantised matrices, which knows its form in a file."""

    kind: str
    squared_error: float
    squared_norm: float

    def stored(self, *, single: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Its parts by name, and the metadata of the torchao tensor that they make up."""
        ...

    def torchao_config(self) -> dict[str, Any]:
        """The torchao config that `transformers` shows, as JSON."""
        ...


def packed_matrices(model: Qwen3) -> dict[str, Packed]:
    """The quantised matrices of a model, by the published name of their weights."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, Packed):
            is_linear = name.endswith(".packed")
            name = name.removesuffix(".packed") + ".weight" if is_linear else name
            found[packed_name(name)] = module
    return found


def packed_name(name: str) -> str:
    """The published name of `blocks.3.attn.q.weight`, or of the stack `blocks.3.mlp.down`."""
    layer, inner = split_name(name)
    if inner in FUSED_EXPERTS:
        return f"model.layers.{layer}.{FUSED_EXPERTS[inner]}"
    return published_name(name)


def part_name(weight: str, part: str) -> str:
    """The name in a file of a part of a torchao tensor."""
    module, leaf = weight.rsplit(".", 1)
    return f"{module}._{leaf}_{part}"


def quantisation_config(packed: Packed) -> dict[str, Any]:
    """The entry `quantization_config` of config.json."""
    return {
        "quant_method": METHOD,
        "quant_type": {"default": packed.torchao_config()},
        "modules_to_not_convert": ["lm_head"],
        "include_input_output_embeddings": False,
        MARK: {"format": FORMAT, "kind": packed.kind},
    }


def save_packed(model: Qwen3, path: Path) -> None:
    """Write the weights of a quantised model.

    Raises:
        CheckpointError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    about: dict[str, str] = {}
    errors: dict[str, tuple[float, float]] = {}
    for name, packed in packed_matrices(model).items():
        parts, kind = packed.stored(single=name.endswith(".weight"))
        tensors |= {part_name(name, part): value.cpu() for part, value in parts.items()}
        about[name] = json.dumps(kind)
        errors[name] = packed.squared_error, packed.squared_norm
    for name, value in plain_tensors(model):
        tensors[name] = value.detach().cpu().contiguous()
        about[name] = json.dumps({"_type": "Tensor"})
    about["tensor_names"] = json.dumps(list(about))
    about[MARK] = json.dumps({"format": FORMAT, "errors": errors})
    with whole_file(path, error=CheckpointError) as part:
        save_checked(tensors, part, {**about, "format": "pt"})


def plain_tensors(model: Qwen3) -> Iterator[tuple[str, torch.Tensor]]:
    """The parameters that are not quantised, by published name."""
    return ((published_name(name), value) for name, value in model.named_parameters())


def saved_kind(fields: Any, folder: Path) -> str | None:
    """The kind of a quantised model that this package saved; None for one that it did not.

    Args:
        fields: the entry `quantization_config` of config.json.
        folder: for the error message.

    Raises:
        CheckpointError: it was saved in a format that this version does not read.
    """
    mark = fields.get(MARK) if isinstance(fields, dict) else None
    if not isinstance(mark, dict):
        return None
    if mark.get("format") != FORMAT or not isinstance(mark.get("kind"), str):
        raise CheckpointError(
            f"{folder} holds quantised weights in another format than this version of qwen3lab "
            f"reads ({FORMAT}): quantise the model again"
        )
    return mark["kind"]
