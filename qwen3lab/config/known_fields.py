"""Fields of a published `config.json` that are used, or that change no activation."""

from collections.abc import Mapping
from typing import Any

USED_FIELDS = frozenset(
    [
        "model_type",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "intermediate_size",
        "vocab_size",
        "max_position_embeddings",
        "rms_norm_eps",
        "tie_word_embeddings",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "partial_rotary_factor",
        "hidden_act",
        "attention_bias",
        "original_max_position_embeddings",
        "is_causal",
        "use_sliding_window",
        "layer_types",
        "dtype",
        "torch_dtype",
        "quantization",
        "quantization_config",
    ]
)
USED_FIELDS_OF_EXPERTS = frozenset(
    [
        "num_experts",
        "num_local_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "norm_topk_prob",
        "decoder_sparse_step",
        "mlp_only_layers",
    ]
)
FIELDS_WITHOUT_EFFECT = frozenset(
    [
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "bos_token_id",
        "chunk_size_feed_forward",
        "eos_token_id",
        "id2label",
        "initializer_range",
        "is_encoder_decoder",
        "label2id",
        "max_window_layers",
        "name_or_path",
        "num_labels",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "pad_token_id",
        "problem_type",
        "return_dict",
        "router_aux_loss_coef",
        "sliding_window",
        "tokenizer_class",
        "transformers_version",
        "use_cache",
        "use_return_dict",
    ]
)
"""Fields that change no activation: labels, training settings, and tokens that end a reply."""


VALUES_WITHOUT_EFFECT: Mapping[str, Any] = {
    "qkv_bias": False,
    "shared_expert_intermediate_size": 0,
    "use_qk_norm": True,
}
"""Values of fields of published configs that say what every Qwen3 computes."""


def known_fields(fields: Mapping[str, Any], *, is_moe: bool) -> frozenset[str]:
    """Fields of which no warning is needed, dense or mixture of experts."""
    known = USED_FIELDS | FIELDS_WITHOUT_EFFECT
    known |= {
        name
        for name, value in VALUES_WITHOUT_EFFECT.items()
        if name in fields and type(fields[name]) is type(value) and fields[name] == value
    }
    return known | USED_FIELDS_OF_EXPERTS if is_moe else known
