"""A model of transformers in memory: the copy computes the same, or there is a refusal."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torchao.quantization import Int8WeightOnlyConfig, quantize_
from transformers import AutoConfig, AutoModelForCausalLM

from qwen3lab.errors import CheckpointError, ConfigError
from qwen3lab.loading import from_transformers
from tests.reference import CASES, YARN, gap, hf_random, tokens


class Twice(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Named(AutoModelForCausalLM._model_mapping[type(AutoConfig.for_model("qwen3"))]):
    """A subclass that changes nothing."""


def layer(hf):
    return hf.model.layers[1]


def patch(module):
    inner = module.forward
    module.forward = lambda *args, **options: 2 * inner(*args, **options)


def shorten(hf):
    hf.model.layers = hf.model.layers[:2]
    hf.config.num_hidden_layers = 2


# Each changes a model that was built from another config, and with it what the model computes.
CHANGES = {
    "fewer experts in a router": lambda hf: setattr(layer(hf).mlp.gate, "top_k", 1),
    "a router that does not renormalise": lambda hf: setattr(
        layer(hf).mlp.gate, "norm_topk_prob", False
    ),
    "fewer experts in the config": lambda hf: setattr(hf.config, "num_experts_per_tok", 1),
    "no renormalising in the config": lambda hf: setattr(hf.config, "norm_topk_prob", False),
    "another eps in the config": lambda hf: setattr(hf.config, "rms_norm_eps", 0.1),
    "another eps in a norm": lambda hf: setattr(hf.model.norm, "variance_epsilon", 0.1),
    "another theta in the config": lambda hf: hf.config.rope_parameters.update(rope_theta=1e3),
    "yarn in the config": lambda hf: setattr(hf.config, "rope_parameters", dict(YARN)),
    "other frequencies": lambda hf: hf.model.rotary_emb.inv_freq.mul_(0.5),
    "another scale of scores": lambda hf: setattr(layer(hf).self_attn, "scaling", 1.0),
    "attention to later tokens": lambda hf: setattr(layer(hf).self_attn, "is_causal", False),
    "another activation": lambda hf: setattr(hf.model.layers[0].mlp, "act_fn", nn.GELU()),
    "a patched forward": lambda hf: patch(layer(hf).mlp),
    "another class": lambda hf: setattr(hf.lm_head, "__class__", Twice),
    "a sliding window": lambda hf: setattr(hf.config, "sliding_window", 3),
}
EQUAL = {
    "as built": lambda hf: None,
    "layers in another order": lambda hf: setattr(
        hf.model, "layers", nn.ModuleList(list(hf.model.layers)[::-1])
    ),
    "fewer layers": shorten,
    "a longer vocabulary": lambda hf: hf.resize_token_embeddings(120, mean_resizing=False),
    "a compiled layer": lambda hf: layer(hf).compile(backend="eager"),
    "gradient checkpointing": lambda hf: setattr(layer(hf), "gradient_checkpointing", True),
    "a subclass": lambda hf: setattr(hf, "__class__", Named),
    "outputs captured before": lambda hf: hf(tokens(), output_hidden_states=True),
    "trained further": lambda hf: hf.train(),
}


def hf_of(name):
    return hf_random("dense" if name in ("another activation", "a subclass") else "experts")


@torch.no_grad()
def copied_logits(hf):
    return from_transformers(hf).eval()(tokens())


@pytest.mark.parametrize("name", CHANGES)
def test_a_model_that_is_not_as_its_config_says_is_refused(name):
    hf = hf_of(name)
    hf.set_attn_implementation("sdpa")
    with torch.no_grad():
        before = hf(tokens()).logits
        CHANGES[name](hf)
        after = hf(tokens()).logits
    # What only the config says is not what the model computes.
    assert name.endswith("the config") or gap(after, before) > 1e-3
    with pytest.raises((CheckpointError, ConfigError), match="in memory"):
        from_transformers(hf)


@pytest.mark.parametrize("name", EQUAL)
@torch.no_grad()
def test_a_model_changed_in_another_way_is_copied_exactly(name):
    hf = hf_of(name)
    EQUAL[name](hf)
    assert gap(copied_logits(hf), hf.eval()(tokens()).logits) < 1e-5


def test_copying_leaves_the_model_and_its_config_as_they_were():
    hf = hf_random("experts", attention="sdpa")
    hf.train()
    before = hf.config.to_dict()
    from_transformers(hf)
    assert hf.config.to_dict() == before
    assert hf.config._attn_implementation == "sdpa"
    assert hf.training


@torch.no_grad()
@pytest.mark.parametrize("watch", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_are_named_in_a_warning(watch):
    hf = hf_random("dense")
    getattr(hf.model.layers[2].mlp, watch)(lambda *_: None)
    with pytest.warns(UserWarning, match=r"model.layers.2.mlp .* has forward hooks \(1 modules"):
        assert gap(copied_logits(hf), hf(tokens()).logits) < 1e-5


@torch.no_grad()
def test_dropout_in_training_mode_is_left_out_with_a_warning():
    kind, fields = CASES["dense"]
    config = AutoConfig.for_model(kind, **copy.deepcopy(fields), attention_dropout=0.5)
    hf = AutoModelForCausalLM.from_config(config).train()
    with pytest.warns(UserWarning, match="training mode with attention_dropout 0.5"):
        ours = copied_logits(hf)
    assert gap(ours, hf.eval()(tokens()).logits) < 1e-5


@torch.no_grad()
def test_frequencies_rounded_by_a_change_of_dtype_are_float32_in_the_copy():
    with pytest.warns(UserWarning, match=r"inv_freq .* is torch.bfloat16, rounded"):
        ours = copied_logits(hf_random("dense").bfloat16())
    assert torch.equal(ours, copied_logits(hf_random("dense", dtype=torch.bfloat16)))


def test_a_model_quantised_by_torchao_is_refused():
    hf = hf_random("dense, tied")
    quantize_(hf, Int8WeightOnlyConfig())
    with pytest.raises(CheckpointError, match=r"is an? \w+, of a quantised or a distributed model"):
        from_transformers(hf)


def test_weights_without_values_are_refused():
    with pytest.raises(CheckpointError, match="on the meta device or offloaded"):
        from_transformers(hf_random("dense, tied").to("meta"))


@pytest.mark.parametrize(
    "wrap", [torch.compile, nn.DataParallel, lambda hf: None, lambda hf: "Qwen/Qwen3-0.6B"]
)
def test_a_wrapper_or_no_model_is_refused(wrap):
    with pytest.raises(CheckpointError, match=r"wrapper \(torch.compile\)|is not a Qwen3 of"):
        from_transformers(wrap(hf_random("dense")))


@pytest.mark.peer
@pytest.mark.parametrize("inner", [False, True])
@torch.no_grad()
def test_an_adapter_that_is_not_merged_is_refused_and_a_merged_one_is_copied(inner):
    peft = pytest.importorskip("peft")
    options = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft reads a deprecated property.
        lora = peft.get_peft_model(hf_random("dense"), options).eval()
    with pytest.raises(CheckpointError, match="merge it first"):
        from_transformers(lora.get_base_model() if inner else lora)
    expected = lora(tokens()).logits
    assert gap(copied_logits(lora.merge_and_unload()), expected) < 1e-5


@pytest.mark.peer
@torch.no_grad()
def test_hooks_of_accelerate_that_move_tensors_do_not_count():
    hooks = pytest.importorskip("accelerate.hooks")
    hf = hf_random("experts")
    for module in hf.modules():
        hooks.add_hook_to_module(module, hooks.AlignDevicesHook(execution_device="cpu"))
    assert gap(copied_logits(hf), hf(tokens()).logits) < 1e-5


@pytest.mark.peer
def test_a_model_dispatched_by_accelerate_whose_forward_was_patched_is_refused():
    hooks = pytest.importorskip("accelerate.hooks")
    hf = hf_random("experts")
    patch(layer(hf).mlp)
    hooks.add_hook_to_module(layer(hf).mlp, hooks.AlignDevicesHook(execution_device="cpu"))
    with pytest.raises(CheckpointError, match=r"layers.1.mlp .* has a forward of its own"):
        from_transformers(hf)
