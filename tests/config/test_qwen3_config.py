import json
import os

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

from qwen3lab.config.qwen3_config import Qwen3Config, Rope
from qwen3lab.errors import ConfigError
from qwen3lab.model.positions import inverse_wavelengths

OLD = {
    "model_type": "qwen3",
    "hidden_size": 1024,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 3072,
    "vocab_size": 151_936,
    "max_position_embeddings": 40_960,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1_000_000,
    "rope_scaling": None,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "attention_bias": False,
    "use_sliding_window": False,
    "sliding_window": None,
    "max_window_layers": 28,
}
OLD_MOE = OLD | {
    "model_type": "qwen3_moe",
    "num_hidden_layers": 6,
    "tie_word_embeddings": False,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
YARN = {"factor": 4.0, "original_max_position_embeddings": 32_768}


def without(fields, *names):
    return {name: value for name, value in fields.items() if name not in names}


def as_new_generation(fields):
    new = without(fields, "rope_theta", "rope_scaling", "num_experts")
    scaling = fields.get("rope_scaling") or {"rope_type": "default"}
    new["rope_parameters"] = {"rope_theta": fields["rope_theta"], **scaling}
    if "num_experts" in fields:
        new["num_local_experts"] = fields["num_experts"]
    return new


def refusal(fields):
    with pytest.raises(ConfigError) as caught:
        Qwen3Config.from_dict(fields)
    return str(caught.value)


def test_a_dense_config_is_read_field_by_field():
    assert Qwen3Config.from_dict(OLD) == Qwen3Config(
        d_model=1024,
        n_layers=28,
        n_heads=16,
        n_kv_heads=8,
        d_head=128,
        d_mlp=3072,
        d_vocab=151_936,
        n_ctx=40_960,
        eps=1e-6,
        rope=Rope(theta=1e6),
        tied_embeddings=True,
    )


def test_a_mixture_of_experts_is_read_field_by_field():
    config = Qwen3Config.from_dict(OLD_MOE)
    assert (config.n_experts, config.n_experts_per_token, config.d_expert) == (128, 8, 768)
    assert config.norm_topk_prob and config.is_moe and not config.tied_embeddings
    assert config.moe_layers == (0, 1, 2, 3, 4, 5)


@pytest.mark.parametrize("fields", [OLD, OLD_MOE, OLD | {"rope_scaling": {"type": "yarn", **YARN}}])
def test_old_and_new_config_files_give_the_same_config(fields):
    assert Qwen3Config.from_dict(as_new_generation(fields)) == Qwen3Config.from_dict(fields)


@pytest.mark.parametrize("generation", [dict, as_new_generation])
def test_missing_sizes_are_the_defaults_of_transformers(generation):
    optional = ("head_dim", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings")
    fields = generation(without(OLD, *optional))
    config, theirs = Qwen3Config.from_dict(fields), AutoConfig.for_model(**fields)
    assert config.d_head == theirs.head_dim != 1024 // 16
    assert config.n_ctx == theirs.max_position_embeddings
    assert (config.eps, config.tied_embeddings) == (theirs.rms_norm_eps, False)


def test_a_missing_head_size_of_a_mixture_of_experts_is_hidden_size_over_heads(tmp_path):
    fields = without(OLD_MOE, "head_dim") | {"num_hidden_layers": 1, "num_experts": 8}
    with torch.device("meta"):
        theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields))
    assert Qwen3Config.from_dict(fields).d_head == theirs.model.layers[0].self_attn.head_dim


@pytest.mark.parametrize("fields", [OLD, OLD_MOE])
def test_a_head_size_of_null_is_refused(fields):
    assert refusal(fields | {"head_dim": None}).startswith("config.json gives head_dim as null")


def test_every_field_that_transformers_writes_is_known():
    for fields in (OLD, OLD_MOE):
        Qwen3Config.from_dict(AutoConfig.for_model(**fields).to_dict())


def test_fields_without_a_use_are_named_in_one_warning():
    with pytest.warns(UserWarning, match=r"config.json has fields .*: 'auto_map', 'logit_scale';"):
        Qwen3Config.from_dict(OLD | {"logit_scale": 2.0, "auto_map": {}})
    with pytest.warns(UserWarning, match=r"'num_experts'"):
        Qwen3Config.from_dict(OLD | {"num_experts": 8})
    with pytest.warns(UserWarning, match=r"'x7' and 2 more;"):
        Qwen3Config.from_dict(OLD | {f"x{i}": 0 for i in range(10)})


def test_rope_keys_without_a_use_are_named_and_transformers_gives_the_same_frequencies():
    yarn = {"rope_type": "yarn", **YARN}
    for scaling, key in (
        (yarn | {"attn_factor": 0.5}, "attn_factor"),
        ({"rope_type": "default", "factor": 4.0}, "factor"),
        (yarn | {"mrope_section": [1]}, "mrope_section"),
    ):
        with pytest.warns(
            UserWarning, match=rf"the rope group in config.json has .* neither .*'{key}'"
        ):
            rope = Qwen3Config.from_dict(OLD | {"rope_scaling": scaling}).rope
        theirs = AutoConfig.for_model(**OLD | {"rope_scaling": dict(scaling)})
        made = Qwen3RotaryEmbedding(theirs)
        torch.testing.assert_close(made.inv_freq, inverse_wavelengths(rope, 128))
        assert made.attention_scaling == pytest.approx(rope.scale)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rope_parameters": {"rope_theta": 5.0}}, "rope_theta as .* and rope_parameters.rope_the"),
        ({"rope_scaling": {"type": "yarn", "rope_type": "default"}}, "rope_type as .* and type as"),
        (
            {"rope_scaling": {"type": "default"}, "rope_parameters": {"rope_theta": 1e6}},
            "has rope_scaling and rope_parameters with different settings",
        ),
        ({"is_causal": False}, "is_causal is False: Qwen3 attends to earlier tokens only"),
        (
            {"rope_scaling": {"type": "yarn", **YARN}, "original_max_position_embeddings": 64},
            "original_max_position_embeddings as 64 and yarn's original_max_position_embedd",
        ),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5: Qwen3 rotates all"),
        ({"rope_scaling": {"rope_type": "yarn", **YARN, "truncate": False}}, "yarn with truncate"),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 1.0, "attention_factor": 2.0}},
            "factor is 1 and its attention_factor is 2.0",
        ),
        ({"layer_types": ["full_attention", "linear_attention"]}, "a layer the type 'linear_att"),
    ],
)
def test_settings_that_contradict_or_are_not_supported_are_refused(change, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Qwen3Config.from_dict(OLD | change)


def test_two_numbers_of_experts_are_refused():
    with pytest.raises(ConfigError, match="num_experts as 128 and num_local_experts as 64"):
        Qwen3Config.from_dict(OLD_MOE | {"num_local_experts": 64})


def test_an_error_and_a_warning_of_a_file_name_the_file(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(OLD | {"head_dim": "big"}))
    with pytest.raises(ConfigError, match=f"{file}: config.json gives head_dim as 'big'"):
        Qwen3Config.from_file(tmp_path)
    yarn = {"rope_type": "yarn", **YARN, "attn_factor": 2.0}
    file.write_text(json.dumps(OLD | {"rope_scaling": yarn}))
    with pytest.warns(UserWarning, match=f"the rope group in {file} has fields .* 'attn_factor'"):
        Qwen3Config.from_file(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_in_place_of_a_config_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ConfigError, match=r"config.json is not a regular file"):
        Qwen3Config.from_file(tmp_path)


def test_a_config_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_text", deny)
    with pytest.raises(ConfigError, match=r"config.json cannot be read \(Permission denied\)"):
        Qwen3Config.from_file(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("step", "dense", "expected"),
    [(1, [], (0, 1, 2, 3, 4, 5)), (1, [0, 3], (1, 2, 4, 5)), (2, [], (1, 3, 5)), (2, [3], (1, 5))],
)
def test_sparse_step_and_mlp_only_layers_decide_which_layers_have_experts(step, dense, expected):
    fields = OLD_MOE | {"decoder_sparse_step": step, "mlp_only_layers": dense}
    assert Qwen3Config.from_dict(fields).moe_layers == expected


@pytest.mark.parametrize("generation", [dict, as_new_generation])
def test_a_missing_norm_topk_prob_means_false_as_in_transformers(generation):
    without_field = generation(without(OLD_MOE, "norm_topk_prob"))
    assert Qwen3Config.from_dict(without_field).norm_topk_prob is False
    assert AutoConfig.for_model(**without_field).norm_topk_prob is False
    assert Qwen3Config.from_dict(generation(OLD_MOE)).norm_topk_prob is True


@pytest.mark.parametrize("kind", ["type", "rope_type"])
def test_yarn_is_read_in_both_spellings(kind):
    config = Qwen3Config.from_dict(OLD | {"rope_scaling": {kind: "yarn", **YARN}})
    assert config.rope == Rope(theta=1e6, factor=4.0, original_n_ctx=32_768)
    assert config.rope.is_yarn
    assert config.rope.scale == pytest.approx(1.1386294)  # 0.1 ln 4 + 1


def test_optional_yarn_settings_are_read():
    scaling = {"rope_type": "yarn", **YARN, "beta_fast": 16, "beta_slow": 2}
    rope = Qwen3Config.from_dict(OLD | {"rope_scaling": scaling | {"attention_factor": 1.5}}).rope
    assert (rope.beta_fast, rope.beta_slow, rope.scale) == (16.0, 2.0, 1.5)


def test_yarn_without_an_original_length_takes_max_position_embeddings():
    rope = Qwen3Config.from_dict(OLD | {"rope_scaling": {"type": "yarn", "factor": 2.0}}).rope
    assert rope.original_n_ctx == 40_960


def test_a_factor_of_null_is_the_ratio_of_the_lengths():
    scaling = {"type": "yarn", "factor": None, "original_max_position_embeddings": 10_240}
    assert Qwen3Config.from_dict(OLD | {"rope_scaling": scaling}).rope.factor == 4.0


@pytest.mark.parametrize("fields", [OLD, OLD_MOE, OLD | {"rope_scaling": {"type": "yarn", **YARN}}])
def test_a_config_survives_the_round_trip_through_transformers(tmp_path, fields):
    config = Qwen3Config.from_dict(fields)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    theirs = AutoConfig.from_pretrained(tmp_path)
    assert Qwen3Config.from_dict(theirs.to_dict()) == config
    theirs.save_pretrained(tmp_path)
    assert Qwen3Config.from_file(tmp_path) == config
    assert theirs.rope_parameters["rope_theta"] == 1e6
    assert theirs.num_key_value_heads == 8


def test_mixed_layers_survive_the_round_trip_through_transformers(tmp_path):
    config = Qwen3Config.from_dict(OLD_MOE | {"decoder_sparse_step": 2})
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    theirs = AutoConfig.from_pretrained(tmp_path)
    assert theirs.mlp_only_layers == [0, 2, 4]
    assert Qwen3Config.from_dict(theirs.to_dict()).moe_layers == (1, 3, 5)


def test_another_architecture_is_refused_by_name():
    message = refusal(OLD | {"model_type": "llama"})
    assert message == (
        "model_type is 'llama': this package runs Qwen3 ('qwen3') and Qwen3-MoE ('qwen3_moe') only"
    )
    assert "model_type is None" in refusal(without(OLD, "model_type"))


def test_sliding_window_attention_is_refused():
    assert "sliding-window attention" in refusal(OLD | {"use_sliding_window": True})
    layers = ["full_attention", "sliding_attention"]
    assert "sliding-window attention" in refusal(OLD | {"layer_types": layers})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"attention_bias": True}, "attention_bias is true: Qwen3's projections have no biases"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu': Qwen3's MLPs use 'silu'"),
        ({"hidden_size": "big"}, "hidden_size as 'big': expected a whole number"),
        ({"hidden_size": 1024.5}, "hidden_size as 1024.5: expected a whole number"),
        ({"hidden_size": True}, "hidden_size as True: expected a whole number"),
        ({"num_hidden_layers": 0}, "n_layers is 0: expected a positive number"),
        ({"num_attention_heads": 0}, "n_heads is 0: expected a positive number"),
        ({"num_key_value_heads": 5}, "n_heads 16 is not a multiple of n_kv_heads 5"),
        ({"head_dim": 127}, "d_head 127 is odd: rotary embeddings rotate pairs"),
        ({"rms_norm_eps": float("inf")}, "rms_norm_eps as inf: expected a positive number"),
        ({"rope_theta": 10**400}, "expected a positive number"),
        ({"layer_types": 5}, "layer_types as 5: expected a list"),
        ({"model_type": []}, "model_type is []: this package runs Qwen3"),
        ({"rope_parameters": 5}, "rope settings as 5: expected an object"),
        ({"hidden_size": 2**62}, "hidden_size as 4611686018427387904: expected 16777216 at most"),
        ({"vocab_size": 2**70}, "expected 16777216 at most"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers as 1000000000: expected 4096 at most"),
        (
            {"hidden_size": 2**24, "head_dim": 2**24, "num_attention_heads": 2**24},
            "check the sizes",
        ),
        ({"rms_norm_eps": "tiny"}, "rms_norm_eps as 'tiny': expected a positive number"),
        ({"rope_theta": -1.0}, "rope_theta as -1.0: expected a positive number"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings as 'no': expected true or false"),
        ({"rope_scaling": "yarn"}, "rope settings as 'yarn': expected an object"),
        ({"rope_scaling": {"type": "linear"}}, "rope scaling of type 'linear' is unknown"),
        ({"rope_scaling": {"type": "yarn", "factor": 0.5}}, "yarn's factor is 0.5: expected a"),
        ({"rope_scaling": {"type": "yarn", **YARN, "mscale": 1.0}}, "yarn with mscale is not"),
    ],
)
def test_an_invalid_field_is_named_in_one_sentence(change, sentence):
    assert sentence in refusal(OLD | change)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"num_experts_per_tok": 129}, "129 experts per token cannot be chosen from 128"),
        ({"num_experts_per_tok": 0}, "0 experts per token cannot be chosen from 128"),
        ({"decoder_sparse_step": 0}, "decoder_sparse_step 0 and mlp_only_layers [] do not define"),
        ({"mlp_only_layers": 3}, "expected a number of at least 1 and a list of layers"),
        ({"mlp_only_layers": [[1]]}, "and mlp_only_layers [[1]] do not define"),
        ({"num_experts": 10**9}, "num_experts as 1000000000: expected 16384 at most"),
        ({"moe_intermediate_size": -3}, "d_expert is -3: expected a positive number"),
        ({"norm_topk_prob": 1}, "norm_topk_prob as 1: expected true or false"),
    ],
)
def test_an_invalid_expert_field_is_named_in_one_sentence(change, sentence):
    assert sentence in refusal(OLD_MOE | change)


@pytest.mark.parametrize(
    "name",
    [
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
        "intermediate_size",
    ],
)
def test_a_missing_field_is_named(name):
    assert refusal(without(OLD, name)) == f"config.json has no {name}: a Qwen3 config needs it"


def test_a_missing_number_of_experts_is_refused_with_both_field_names():
    message = refusal(without(OLD_MOE, "num_experts"))
    assert message == "config.json has no num_experts or num_local_experts: a Qwen3 config needs it"


def test_a_file_that_is_missing_invalid_or_not_an_object_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"config.json does not exist: a model folder needs a"):
        Qwen3Config.from_file(tmp_path)
    file = tmp_path / "config.json"
    file.write_text('{"model_type": ')
    with pytest.raises(ConfigError, match=r"is not valid JSON .*: correct it, or fetch it"):
        Qwen3Config.from_file(tmp_path)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not valid JSON"):
        Qwen3Config.from_file(file)
    for text in ('{"a": ' * 10**5, '{"hidden_size": ' + "9" * 10_000 + "}"):
        file.write_text(text)
        with pytest.raises(ConfigError):
            Qwen3Config.from_file(file)
    file.write_text("[1, 2]")
    with pytest.raises(ConfigError, match="holds a list: expected a JSON object"):
        Qwen3Config.from_file(file)


def test_bytes_are_counted_by_dtype_and_an_unknown_dtype_is_refused():
    config = Qwen3Config.from_dict(OLD)
    assert config.kv_cache_bytes_per_token("bfloat16") == 2 * 28 * 8 * 128 * 2
    assert config.kv_cache_bytes_per_token("float32") == 2 * 28 * 8 * 128 * 4
    assert config.weight_bytes("float16") == 2 * 596_049_920
    with pytest.raises(ConfigError, match="dtype 'int3' is unknown: choose from float32"):
        config.weight_bytes("int3")
