"""The adapter_config.json that PEFT writes: which LoRA adapters are read, and their scales."""

import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from qwen3lab.checkpoints.folders import ADAPTER_CONFIG
from qwen3lab.errors import CheckpointError

PLAIN_INIT = (True, False, None, "gaussian", "orthogonal")
"""Ways to begin a training that leave the base model's weights as they are."""
MUST_BE = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "fan_in_fan_out": (False,),
    "lora_bias": (False,),
    "init_lora_weights": PLAIN_INIT,
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
PARAMETERS = ("gate_up_proj", "down_proj", "weight")
"""Ends of the names of parameters that an adapter may target: fused experts, or matrices."""
MERGE_WITH_PEFT = "merge the adapter with peft (model.merge_and_unload()), save that, and load it"


@dataclass(frozen=True)
class AdapterConfig:
    """What an adapter's config says.

    Attributes:
        folder: of the adapter.
        base: the model that it names; empty if there is none.
        alpha: of all modules without one of their own.
        alphas: by the end of a module's name.
        is_rank_stabilised: True if the scale is alpha / sqrt(r).
        is_dora: True if every module has a magnitude.
        parameters: ends of the names of targeted parameters, such as "experts.down_proj".
        peft: version of PEFT that saved the adapter; () if that is not known.
    """

    folder: Path
    base: str
    alpha: float
    alphas: Mapping[str, float]
    is_rank_stabilised: bool
    is_dora: bool
    parameters: tuple[str, ...]
    peft: tuple[int, ...]

    @classmethod
    def read(cls, folder: Path) -> "AdapterConfig":
        """Read the config of a folder.

        Raises:
            CheckpointError: it is missing or damaged, or it describes no LoRA that can be added.
        """
        fields = _fields(folder)
        for name, allowed in MUST_BE.items():
            value = fields.get(name, allowed[0])
            if not any(type(value) is type(each) and value == each for each in allowed):
                raise _not_read(folder, name, value)
        return cls(
            folder=folder,
            base=str(fields.get("base_model_name_or_path") or ""),
            alpha=_number(folder, "lora_alpha", fields.get("lora_alpha", 8)),
            alphas=_alphas(folder, fields.get("alpha_pattern") or {}),
            is_rank_stabilised=fields.get("use_rslora") is True,
            is_dora=fields.get("use_dora") is True,
            parameters=_parameters(folder, fields.get("target_parameters") or []),
            peft=_version(fields.get("peft_version")),
        )

    def targets(self, parameter: str) -> bool:
        """Whether `target_parameters` names a parameter, as PEFT matches it."""
        return any(parameter == end or parameter.endswith(f".{end}") for end in self.parameters)

    def alpha_of(self, name: str) -> float:
        """The alpha of a module or of a targeted parameter, by its published name."""
        names = (name, name.removesuffix(".weight"))
        for end, alpha in self.alphas.items():
            if any(each == end or each.endswith(f".{end}") for each in names):
                return alpha
        return self.alpha

    def scale(self, name: str, rank: int) -> float:
        """The factor of B A for a module or a targeted parameter, by its published name."""
        return self.alpha_of(name) / (math.sqrt(rank) if self.is_rank_stabilised else rank)


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


def _not_read(folder: Path, name: str, value: object) -> CheckpointError:
    return CheckpointError(
        f"{folder / ADAPTER_CONFIG} gives {name} as {shown(value)}, which is not read: "
        f"{MERGE_WITH_PEFT}"
    )


def _parameters(folder: Path, value: Any) -> tuple[str, ...]:
    """The targeted parameters; each must be one of a Qwen3, as far as its end tells."""
    is_list = isinstance(value, list) and all(isinstance(each, str) for each in value)
    if not is_list or any(each.rpartition(".")[2] not in PARAMETERS for each in value):
        raise _not_read(folder, "target_parameters", value)
    return tuple(value)


def _alphas(folder: Path, patterns: Any) -> dict[str, float]:
    """Alphas by the end of a module's name; a pattern must be such an end, no other expression."""
    if not isinstance(patterns, Mapping):
        raise CheckpointError(f"{folder / ADAPTER_CONFIG} gives alpha_pattern, which is no table")
    found: dict[str, float] = {}
    for pattern, alpha in patterns.items():
        # PEFT itself writes the prefix, for modules that transformers 5 has fused.
        end = str(pattern).removeprefix(".*\\.").replace("\\.", ".").removesuffix("$")
        if not re.fullmatch(r"[\w.]+", end):
            raise CheckpointError(
                f"{folder / ADAPTER_CONFIG} gives the alpha_pattern {shown(pattern)}: expected the "
                "end of a module's name; merge the adapter with peft"
            )
        found[end] = _number(folder, "alpha_pattern", alpha)
    return found


def _number(folder: Path, name: str, value: Any) -> float:
    # A whole number beyond the range of float is no finite one either.
    if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
        raise CheckpointError(
            f"{folder / ADAPTER_CONFIG} gives {name} as {shown(value)}: expected a number"
        )
    return float(value)


def _version(text: object) -> tuple[int, ...]:
    """A release such as "0.21.2"; a development version counts as unknown."""
    match = re.fullmatch(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", str(text))
    return tuple(int(part or 0) for part in match.groups()) if match else ()
