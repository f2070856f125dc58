"""Refuses a `config.json` of another architecture, or with features that Qwen3 does not have."""

from collections.abc import Mapping
from typing import Any

from qwen3lab.config.json_fields import flag, refuse_two_values, shown
from qwen3lab.errors import ConfigError

MODEL_TYPES = {"qwen3": False, "qwen3_moe": True}
"""Whether a model type is a mixture of experts."""
N_EXPERTS_FIELDS = ("num_experts", "num_local_experts")
"""Names of one field in the two generations of the file format."""
SLIDING_WINDOW = (
    "the config uses sliding-window attention, which no published Qwen3 does: only full attention "
    "is supported"
)


def check_supported(fields: Mapping[str, Any]) -> bool:
    """True if the fields describe a mixture of experts; raises ConfigError if not a Qwen3."""
    kind = fields.get("model_type")
    if not isinstance(kind, str) or kind not in MODEL_TYPES:
        raise ConfigError(
            f"model_type is {shown(kind)}: this package runs Qwen3 ('qwen3') and "
            "Qwen3-MoE ('qwen3_moe') only"
        )
    if flag(fields, "use_sliding_window"):
        raise ConfigError(SLIDING_WINDOW)
    if fields.get("per_layer_config"):
        raise ConfigError(
            "config.json gives layers a config of their own (per_layer_config): every layer of a "
            "Qwen3 has the same, and transformers' Qwen3 does not read another"
        )
    if flag(fields, "attention_bias"):
        raise ConfigError("attention_bias is true: Qwen3's projections have no biases")
    if fields.get("is_causal", True) is not True:
        raise ConfigError(
            f"is_causal is {shown(fields['is_causal'])}: Qwen3 attends to earlier tokens only, and "
            "a model that attends to later ones writes no text"
        )
    activation = fields.get("hidden_act", "silu")
    if activation != "silu":
        raise ConfigError(f"hidden_act is {shown(activation)}: Qwen3's MLPs use 'silu'")
    if MODEL_TYPES[kind]:
        refuse_two_values(fields, *N_EXPERTS_FIELDS)
    return MODEL_TYPES[kind]


def check_layer_types(fields: Mapping[str, Any], n_layers: int) -> None:
    """Check that `layer_types`, if given, states full attention for every layer.

    Raises:
        ConfigError: it does not.
    """
    layers = fields.get("layer_types")
    if layers is None:
        return
    if not isinstance(layers, list | tuple):
        raise ConfigError(f"config.json gives layer_types as {shown(layers)}: expected a list")
    if "sliding_attention" in layers:
        raise ConfigError(SLIDING_WINDOW)
    others = [kind for kind in layers if kind != "full_attention"]
    if others:
        raise ConfigError(
            f"config.json gives a layer the type {shown(others[0])}: every layer of a Qwen3 has "
            "'full_attention'"
        )
    if len(layers) != n_layers:
        raise ConfigError(
            f"config.json gives {len(layers)} layer_types and num_hidden_layers as {n_layers}: "
            "expected one for each layer"
        )
