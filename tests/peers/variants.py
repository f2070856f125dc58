"""The table of checkpoints: one row for each thing that a config.json of a Qwen3 can say."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from tests.peers.words import word_tokenizer
from tests.reference import SMALL, SMALL_MOE, YARN, random_model

ABSENT = object()
N_WORDS = 97
"""Of the tokenizer; a model may have more rows."""


@dataclass(frozen=True)
class Variant:
    """One row.

    Attributes:
        kind: model type.
        fields: of the config that transformers builds the model from.
        rewritten: fields of config.json that are changed after transformers wrote it.
        dtype: in which all libraries load the model.
        n_tokens: of each of two prompts.
        warning: what qwen3lab says of the config.
    """

    kind: str
    fields: dict[str, Any]
    rewritten: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    n_tokens: int = 20
    warning: str = ""


def dense(rewritten: dict[str, Any] | None = None, **fields: Any) -> Variant:
    return Variant("qwen3", SMALL | fields, rewritten or {})


def experts(rewritten: dict[str, Any] | None = None, **fields: Any) -> Variant:
    return Variant("qwen3_moe", SMALL_MOE | fields, rewritten or {})


def beyond(variant: Variant) -> Variant:
    """With prompts that are longer than the original context of YaRN, 64 tokens."""
    return replace(variant, n_tokens=80)


def yarn(**changes: Any) -> dict[str, Any]:
    return {"rope_parameters": YARN | changes}


ODD = {"hidden_size": 45, "head_dim": 6, "intermediate_size": 37, "vocab_size": 101}
OLD_THETA = {"rope_parameters": ABSENT, "rope_theta": 10_000}
OLD_YARN = OLD_THETA | {
    "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
}
PUBLISHED = OLD_THETA | {
    "rope_scaling": None,
    "sliding_window": None,
    "max_window_layers": 28,
    "dtype": ABSENT,
    "torch_dtype": "float32",
    "layer_types": ABSENT,
    "transformers_version": "4.51.0",
}
NO_THETA = {"rope_parameters": ABSENT}
NO_HEAD_DIM = {"head_dim": ABSENT}

BOTH = {
    "untied": {},
    "tied": {"tie_word_embeddings": True},
    "one key/value head": {"num_key_value_heads": 1},
    "a key/value head each": {"num_key_value_heads": 4},
    "one head": {"num_attention_heads": 1, "num_key_value_heads": 1},
    "yarn by 4": yarn(),
    "yarn by 2, scaled": yarn(factor=2.0, attention_factor=1.3),
    "yarn, betas": yarn(beta_fast=4.0, beta_slow=2.0),
    "theta 1e6": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "eps 1e-3": {"rms_norm_eps": 1e-3},
    "padded vocabulary": {"vocab_size": 128},
    "one layer": {"num_hidden_layers": 1},
    "odd widths": ODD,
}
REWRITTEN = {
    "older theta": OLD_THETA,
    "older yarn": OLD_YARN,
    "as published in 2025": PUBLISHED,
    "no theta": NO_THETA,
}
OF_EXPERTS = {
    "not renormalised": {"norm_topk_prob": False},
    "a dense layer": {"mlp_only_layers": [1]},
    "dense layers around": {"mlp_only_layers": [0, 2]},
    "every second layer": {"decoder_sparse_step": 2},
    "dense layers only": {"mlp_only_layers": [0, 1, 2]},
    "one expert a token": {"num_experts_per_tok": 1},
    "all experts": {"num_experts_per_tok": 8},
    "odd experts": ODD | {"moe_intermediate_size": 13, "num_experts": 5, "num_experts_per_tok": 2},
}
HALF = ("bfloat16", "float16")


def _warned(variants: dict[str, Variant]) -> dict[str, Variant]:
    return {
        name: replace(row, warning="has no rope_theta: 10000") if "no theta" in name else row
        for name, row in variants.items()
    }


VARIANTS = _warned(
    {f"dense, {name}": dense(**fields) for name, fields in BOTH.items()}
    | {f"experts, {name}": experts(**fields) for name, fields in BOTH.items()}
    | {f"dense, {name}": dense(changes) for name, changes in REWRITTEN.items()}
    | {f"experts, {name}": experts(changes) for name, changes in REWRITTEN.items()}
    # Without head_dim, a dense model has heads of 128, and one with experts hidden size over heads.
    | {
        "dense, no head_dim": dense(NO_HEAD_DIM, head_dim=128),
        "experts, no head_dim": experts(NO_HEAD_DIM, head_dim=12),
    }
    | {f"experts, {name}": experts(**fields) for name, fields in OF_EXPERTS.items()}
    | {f"dense, {dtype}": replace(dense(), dtype=dtype) for dtype in HALF}
    | {f"experts, {dtype}": replace(experts(), dtype=dtype) for dtype in HALF}
    | {f"dense, yarn, {dtype}": replace(dense(**yarn()), dtype=dtype) for dtype in HALF}
    | {f"experts, tied, {d}": replace(experts(tie_word_embeddings=True), dtype=d) for d in HALF}
)
VARIANTS = {name: beyond(row) if "yarn" in name else row for name, row in VARIANTS.items()}


def write(variant, folder):
    """Write the checkpoint of a row: random weights, config.json, and a tokenizer of 97 words."""
    random_model(variant.kind, variant.fields).save_pretrained(folder)
    word_tokenizer(N_WORDS).save_pretrained(folder)
    path = folder / "config.json"
    fields = json.loads(path.read_text()) | variant.rewritten
    path.write_text(json.dumps({k: v for k, v in fields.items() if v is not ABSENT}))
