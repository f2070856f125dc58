"""A config.json without one field, or without two: the values of transformers, or a refusal.

The fields are those that transformers writes, in the spelling of its version 5 and of the files
that Qwen published (version 4.51).
"""

import copy
import json
import warnings
from itertools import combinations

import pytest
from transformers import AutoConfig, logging

from qwen3lab.config import ConfigError, Qwen3Config
from qwen3lab.config.known_fields import FIELDS_WITHOUT_EFFECT
from tests.reference import SMALL, SMALL_MOE, YARN

KINDS = {"qwen3": SMALL, "qwen3_moe": SMALL_MOE | {"mlp_only_layers": [1]}}
OLD_YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
SPELLINGS = {
    "new": {},
    "new, yarn": {"rope_parameters": YARN},
    "published": {
        "rope_parameters": ...,
        "rope_theta": 1_000_000,
        "rope_scaling": None,
        "sliding_window": None,
        "max_window_layers": 28,
        "torch_dtype": "bfloat16",
        "dtype": ...,
        "layer_types": ...,
        "transformers_version": "4.51.0",
    },
    "published, yarn": {
        "rope_parameters": ...,
        "rope_theta": 1_000_000,
        "rope_scaling": OLD_YARN,
        "torch_dtype": "bfloat16",
        "dtype": ...,
    },
}
NEEDED = {
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "moe_intermediate_size",
    "num_experts",
    "num_local_experts",
    "num_experts_per_tok",
}
"""Sizes that transformers replaces by those of an unpublished model, and that are refused here."""


def written(kind, spelling):
    """All fields of a config of transformers, in one of the spellings."""
    config = AutoConfig.for_model(kind, **copy.deepcopy(KINDS[kind]))
    fields = json.loads(config.to_json_string(use_diff=False))
    return {k: v for k, v in (fields | SPELLINGS[spelling]).items() if v is not ...}


def of_transformers(fields):
    """The values of transformers under our names; None if it refuses the fields."""
    fields = copy.deepcopy(fields)
    try:
        theirs = AutoConfig.for_model(fields.pop("model_type"), **fields)
        rope = theirs.rope_parameters
        head = getattr(theirs, "head_dim", theirs.hidden_size // theirs.num_attention_heads)
        values = {
            "d_model": theirs.hidden_size,
            "n_layers": theirs.num_hidden_layers,
            "n_heads": theirs.num_attention_heads,
            "n_kv_heads": theirs.num_key_value_heads,
            "d_head": head,
            "d_mlp": theirs.intermediate_size,
            "d_vocab": theirs.vocab_size,
            "n_ctx": theirs.max_position_embeddings,
            "eps": theirs.rms_norm_eps,
            "tied_embeddings": theirs.tie_word_embeddings,
            "theta": float(rope["rope_theta"]),
            "factor": rope.get("factor", 1.0),
            "original_n_ctx": rope.get("original_max_position_embeddings", 0),
        }
        return values | (_experts(theirs) if theirs.model_type == "qwen3_moe" else {})
    except Exception:  # Any error of transformers is its refusal.
        return None


def _experts(theirs):
    layers = range(theirs.num_hidden_layers)
    dense = theirs.mlp_only_layers
    step = theirs.decoder_sparse_step
    return {
        "n_experts": theirs.num_experts,
        "n_experts_per_token": theirs.num_experts_per_tok,
        "d_expert": theirs.moe_intermediate_size,
        "norm_topk_prob": theirs.norm_topk_prob,
        "moe_layers": tuple(i for i in layers if i not in dense and (i + 1) % step == 0),
    }


def of_ours(fields):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*has no rope_theta")
        config = Qwen3Config.from_dict(fields)
    rope = config.rope
    return vars(config) | {
        "theta": rope.theta,
        "factor": rope.factor,
        "original_n_ctx": rope.original_n_ctx,
    }


def difference(fields):
    """What differs from transformers; a ConfigError counts as a refusal of either."""
    theirs = of_transformers(fields)
    try:
        ours = of_ours(fields)
    except ConfigError as error:
        return f"refused: {error}" if theirs else {}
    if theirs is None:
        return "refused by transformers only"
    return {key: (ours[key], value) for key, value in theirs.items() if ours[key] != value}


@pytest.fixture(autouse=True)
def quiet_transformers():
    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    yield
    logging.set_verbosity(before)


def without(fields, *names):
    return {key: value for key, value in fields.items() if key not in names}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_field_left_out_alone_has_the_value_of_transformers(kind, spelling):
    fields = written(kind, spelling)
    assert difference(fields) == {}
    wrong = {
        name: difference(without(fields, name))
        for name in fields
        if name not in NEEDED | {"model_type"}
    }
    # Without a width, the dense kind is refused, too.
    needed = {"intermediate_size"} if kind == "qwen3" else set()
    assert {name for name, found in wrong.items() if found} == needed, wrong


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_of_fields_left_out_has_the_values_of_transformers(kind, spelling):
    fields = written(kind, spelling)
    skipped = NEEDED | FIELDS_WITHOUT_EFFECT | {"model_type", "intermediate_size"}
    pairs = list(combinations([name for name in fields if name not in skipped], 2))
    wrong = {pair: difference(without(fields, *pair)) for pair in pairs}
    assert len(pairs) > 30
    assert {pair: found for pair, found in wrong.items() if found} == {}


@pytest.mark.parametrize("kind", KINDS)
def test_every_size_left_out_is_refused_by_name(kind):
    fields = written(kind, "published")
    for name in NEEDED & fields.keys():
        with pytest.raises(ConfigError, match=f"config.json has no .*{name}"):
            Qwen3Config.from_dict(without(fields, name))


def test_a_config_for_each_layer_is_refused():
    fields = written("qwen3", "new") | {"per_layer_config": {"1": {"rms_norm_eps": 0.1}}}
    with pytest.raises(ConfigError, match="gives layers a config of their own"):
        Qwen3Config.from_dict(fields)


def test_null_key_value_heads_are_one_for_each_head_in_a_dense_model_as_in_transformers():
    fields = written("qwen3", "new") | {"num_key_value_heads": None}
    assert difference(fields) == {}
    assert Qwen3Config.from_dict(fields).n_kv_heads == SMALL["num_attention_heads"]


def test_null_key_value_heads_are_refused_with_experts_as_in_transformers():
    fields = written("qwen3_moe", "new") | {"num_key_value_heads": None}
    assert of_transformers(fields) is None
    with pytest.raises(ConfigError, match="num_key_value_heads as null"):
        Qwen3Config.from_dict(fields)
