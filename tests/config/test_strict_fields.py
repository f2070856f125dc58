"""Fields that transformers refuses for their type are refused here, too."""

from copy import deepcopy

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import ConfigError

DENSE = {
    "model_type": "qwen3",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "intermediate_size": 24,
    "vocab_size": 60,
    "rope_theta": 10_000.0,
}
EXPERTS = DENSE | {
    "model_type": "qwen3_moe",
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}


def refused_by_both(fields, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Qwen3Config.from_dict(fields)
    with pytest.raises((StrictDataclassError, KeyError, TypeError)), torch.device("meta"):
        AutoModelForCausalLM.from_config(AutoConfig.for_model(**deepcopy(fields)))


@pytest.mark.parametrize("name", ["head_dim", "max_position_embeddings", "rms_norm_eps"])
def test_a_field_with_a_default_is_not_null(name):
    refused_by_both(DENSE | {name: None}, f"gives {name} as null, which transformers refuses")


@pytest.mark.parametrize("name", ["decoder_sparse_step", "intermediate_size", "num_experts"])
def test_a_field_of_experts_with_a_default_is_not_null(name):
    refused_by_both(EXPERTS | {name: None}, f"gives {name} as null, which transformers refuses")


@pytest.mark.parametrize("value", [None, 0, "", []])
@pytest.mark.parametrize("name", ["tie_word_embeddings", "use_sliding_window", "attention_bias"])
def test_a_switch_is_true_or_false(name, value):
    refused_by_both(DENSE | {name: value}, f"gives {name} as .*: expected true or false")


@pytest.mark.parametrize("value", [None, 0, ""])
def test_the_switch_of_experts_is_true_or_false(value):
    refused_by_both(EXPERTS | {"norm_topk_prob": value}, "norm_topk_prob as .*: expected true")


@pytest.mark.parametrize("layers", [[], ["full_attention"], ["full_attention"] * 3])
def test_every_layer_has_its_type(layers):
    refused_by_both(DENSE | {"layer_types": layers}, rf"gives {len(layers)} layer_types and num_h")


@pytest.mark.parametrize("value", [False, 0, ""])
def test_lists_of_layers_are_lists(value):
    refused_by_both(DENSE | {"layer_types": value}, "layer_types as .*: expected a list")
    refused_by_both(EXPERTS | {"mlp_only_layers": value}, "mlp_only_layers .* do not define")


def test_a_layer_is_no_truth_value():
    with pytest.raises(ConfigError, match=r"mlp_only_layers \[True\] do not define which layers"):
        Qwen3Config.from_dict(EXPERTS | {"mlp_only_layers": [True]})


@pytest.mark.parametrize("kind", [False, "", 0])
def test_the_kind_of_rope_is_a_known_word(kind):
    refused_by_both(DENSE | {"rope_scaling": {"type": kind}}, "rope scaling of type .* is unknown")


def test_yarn_states_its_factor():
    refused_by_both(
        DENSE | {"rope_scaling": {"type": "yarn"}}, "config.json has no factor for yarn"
    )


YARN = {"type": "yarn", "factor": 2.0}


@pytest.mark.parametrize(
    ("group", "name"),
    [({"type": "default"}, "rope_theta"), (YARN, "rope_theta"), (YARN, "partial_rotary_factor")],
)
def test_settings_of_rope_are_not_null(group, name):
    fields = DENSE | {"rope_scaling": group | {name: None}}
    refused_by_both(fields, f"gives {name} as null")


def test_the_original_length_of_yarn_is_not_null():
    name = "original_max_position_embeddings"
    for change in ({name: None}, {"rope_scaling": YARN | {name: None}}):
        refused_by_both(DENSE | {"rope_scaling": YARN} | change, f"gives {name} as null")


@pytest.mark.parametrize("theta", [1, 0.5])
def test_a_base_that_does_not_slow_the_rotations_is_refused_for_yarn(theta):
    fields = DENSE | {"rope_theta": theta, "rope_scaling": {"type": "yarn", "factor": 2.0}}
    with pytest.raises(ConfigError, match=r"rope_theta is .*: expected a number above 1"):
        Qwen3Config.from_dict(fields)
