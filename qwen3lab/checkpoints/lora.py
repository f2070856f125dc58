"""LoRA adapters that PEFT saved, added to the weights of their base model.

For a module with A [r, in] and B [out, r]: W' = W + s B A, with s = alpha / r, or alpha / sqrt(r)
with `use_rslora`. With DoRA and its magnitude m [out], each row of W' is scaled to the norm m.

Source: PEFT 0.21, `tuners/lora/layer.py` and `tuners/lora/variants.py`.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.checkpoints.computed_tensors import ComputedTensors
from qwen3lab.checkpoints.folders import ADAPTER_CONFIG
from qwen3lab.checkpoints.safetensors_file import SafetensorsFile
from qwen3lab.checkpoints.safetensors_reader import StoredTensors
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CheckpointError

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
A, B, MAGNITUDE = "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"
PARTS = (A, B, MAGNITUDE)
PLAIN_INIT = (True, False, None, "gaussian", "orthogonal")
"""Ways to begin a training that leave the base model's weights as they are."""
MUST_BE = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "fan_in_fan_out": (False,),
    "lora_bias": (False,),
    "init_lora_weights": PLAIN_INIT,
    "target_parameters": (None, []),
    "trainable_token_indices": (None, {}, []),
    "layer_replication": (None,),
    "alora_invocation_tokens": (None,),
    "use_qalora": (False,),
    "use_rslora": (False, True),
    "use_dora": (False, True),
    "arrow_config": (None,),
    "megatron_config": (None,),
}
"""Values of fields that are read; other values change what the adapter computes."""


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter.

    Attributes:
        folder: that it was read from.
        base: the model that its config names.
        file: of its weights.
        modules: for each adapted matrix, the stored name of each of its parts.
        replaced: stored names of whole tensors that take the place of the base model's.
        alpha: of all modules without one of their own.
        alphas: by the end of a module's name.
        is_rank_stabilised: True if the scale is alpha / sqrt(r).
    """

    folder: Path
    base: str
    file: SafetensorsFile
    modules: Mapping[str, Mapping[str, str]]
    replaced: Mapping[str, str]
    alpha: float
    alphas: Mapping[str, float]
    is_rank_stabilised: bool

    @classmethod
    def open(cls, folder: Path) -> "Adapter":
        """Read an adapter's config and the header of its weights.

        Raises:
            CheckpointError: files are missing or damaged, or it is no LoRA that can be added.
        """
        fields = _fields(folder)
        for name, allowed in MUST_BE.items():
            value = fields.get(name, allowed[0])
            if not any(type(value) is type(each) and value == each for each in allowed):
                raise CheckpointError(
                    f"{folder / ADAPTER_CONFIG} gives {name} as {shown(value)}, which is not read: "
                    "merge the adapter with peft (model.merge_and_unload()), save that, and load it"
                )
        path = folder / WEIGHTS
        if not path.exists():
            raise CheckpointError(
                f"{folder} has no {WEIGHTS}: expected an adapter that peft saved as safetensors"
            )
        file = SafetensorsFile(path)
        modules, replaced = _parts_by_matrix(file)
        _check_magnitudes(file, modules, expected=fields.get("use_dora") is True)
        return cls(
            folder=folder,
            base=str(fields.get("base_model_name_or_path") or ""),
            file=file,
            modules=modules,
            replaced=replaced,
            alpha=_number(folder, "lora_alpha", fields.get("lora_alpha", 8)),
            alphas=_alphas(folder, fields.get("alpha_pattern") or {}),
            is_rank_stabilised=fields.get("use_rslora") is True,
        )

    def scale(self, matrix: str, rank: int) -> float:
        """The factor of B A for a matrix, by its published name."""
        module = matrix.removesuffix(".weight")
        ends = (end for end in self.alphas if module == end or module.endswith(f".{end}"))
        alpha = self.alphas.get(next(ends, ""), self.alpha)
        return alpha / (math.sqrt(rank) if self.is_rank_stabilised else rank)

    def added(self, matrix: str, weight: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
        """A matrix of the base model in float32, with the adapter's change.

        Raises:
            CheckpointError: the adapter is for a matrix of another shape.
        """
        parts = {
            part: self.file.tensor(name).float() for part, name in self.modules[matrix].items()
        }
        a, b = parts[A], parts[B]
        if (
            a.ndim != 2
            or b.ndim != 2
            or (len(b), a.shape[1]) != weight.shape
            or len(a) != b.shape[1]
        ):
            raise CheckpointError(
                f"the adapter {self.folder} has A {tuple(a.shape)} and B {tuple(b.shape)} for "
                f"{matrix}, whose shape is {tuple(weight.shape)}: it is for another base model"
            )
        changed = weight + (b @ a) * self.scale(matrix, len(a))
        if MAGNITUDE not in parts:
            return changed
        if parts[MAGNITUDE].shape != weight.shape[:1]:
            raise CheckpointError(
                f"the adapter {self.folder} has {tuple(parts[MAGNITUDE].shape)} magnitudes for "
                f"{matrix}, whose shape is {tuple(weight.shape)}: it is for another base model"
            )
        return (parts[MAGNITUDE] / changed.norm(dim=1))[:, None] * changed


class AdaptedTensors(ComputedTensors):
    """The tensors of a base model with an adapter added.

    Args:
        weights: of the base model.
        adapter: to add.

    Raises:
        CheckpointError: the adapter changes a tensor that the base model does not have.
    """

    def __init__(self, weights: StoredTensors, adapter: Adapter) -> None:
        super().__init__(weights, str(adapter.folder))
        self.base, self.adapter = weights, adapter
        unknown = (adapter.modules.keys() | adapter.replaced.keys()) - weights.names()
        if unknown:
            raise CheckpointError(
                f"the adapter {adapter.folder} changes {one_line(min(unknown), width=120)}, which "
                "the base model does not have: it is for another base model"
            )

    def names(self) -> set[str]:
        return self.base.names()

    def shape(self, name: str) -> tuple[int, ...]:
        if name in self.adapter.replaced:
            return self.adapter.file.header(self.adapter.replaced[name]).shape
        return self.base.shape(name)

    def dtype(self, name: str) -> torch.dtype:
        return self.base.dtype(name)

    def is_computed(self, name: str) -> bool:
        return name in self.adapter.modules or name in self.adapter.replaced

    def compute(self, name: str) -> Tensor:
        if name in self.adapter.replaced:
            return self.adapter.file.tensor(self.adapter.replaced[name]).float()
        return self.adapter.added(name, self.base.tensor(name).float())

    def file_stamps(self) -> list[str]:
        return [*self.base.file_stamps(), self.adapter.file.stamp()]


def _fields(folder: Path) -> dict[str, Any]:
    path = folder / ADAPTER_CONFIG
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: fetch it again") from error
    if not isinstance(fields, dict) or "peft_type" not in fields:
        raise CheckpointError(f"{path} describes no adapter of peft: expected its peft_type")
    return fields


def _parts_by_matrix(
    file: SafetensorsFile,
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """The stored names of each adapted matrix's parts, and those of replaced tensors."""
    modules: dict[str, dict[str, str]] = {}
    replaced: dict[str, str] = {}
    for stored in sorted(file.headers):
        name = stored.removeprefix(PREFIX)
        part = next((part for part in PARTS if name.endswith(f".{part}")), None)
        if part is not None:
            modules.setdefault(f"{name.removesuffix(part)}weight", {})[part] = stored
        elif "lora_" in name or not stored.startswith(PREFIX):
            raise CheckpointError(
                f"{file.path} holds {one_line(stored, width=120)}, which is not read: merge the "
                "adapter with peft (model.merge_and_unload()), save that, and load it"
            )
        else:
            replaced[name] = stored
    for matrix, parts in modules.items():
        if A not in parts or B not in parts:
            missing = A if A not in parts else B
            raise CheckpointError(
                f"{file.path} lacks {missing} of {one_line(matrix, width=120)}: fetch it again"
            )
    if not modules and not replaced:
        raise CheckpointError(f"{file.path} holds no tensors: fetch it again")
    return modules, replaced


def _check_magnitudes(
    file: SafetensorsFile, modules: Mapping[str, Mapping[str, str]], *, expected: bool
) -> None:
    """Check that all modules have a magnitude with DoRA, and none without."""
    for matrix, parts in modules.items():
        if (MAGNITUDE in parts) != expected:
            found = "lacks" if expected else "holds"
            raise CheckpointError(
                f"{file.path} {found} {MAGNITUDE} of {one_line(matrix, width=120)}, and its config "
                f"gives use_dora as {expected}: fetch the adapter's files together"
            )


def _alphas(folder: Path, patterns: Any) -> dict[str, float]:
    """Alphas by the end of a module's name; a pattern must be such an end, no other expression."""
    if not isinstance(patterns, Mapping):
        raise CheckpointError(f"{folder / ADAPTER_CONFIG} gives alpha_pattern, which is no table")
    found: dict[str, float] = {}
    for pattern, alpha in patterns.items():
        end = str(pattern).replace("\\.", ".").removesuffix("$")
        if not re.fullmatch(r"[\w.]+", end):
            raise CheckpointError(
                f"{folder / ADAPTER_CONFIG} gives the alpha_pattern {shown(pattern)}: expected the "
                "end of a module's name; merge the adapter with peft"
            )
        found[end] = _number(folder, "alpha_pattern", alpha)
    return found


def _number(folder: Path, name: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise CheckpointError(
            f"{folder / ADAPTER_CONFIG} gives {name} as {shown(value)}: expected a number"
        )
    return float(value)
