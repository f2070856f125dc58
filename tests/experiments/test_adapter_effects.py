"""An adapter that changes one known thing is found in exactly that layer."""

import json

import pytest
import torch
from safetensors.torch import save_file

import qwen3lab
from qwen3lab.checkpoints.embedded import EMBEDDED
from qwen3lab.experiments.adapter_effects import adapter_effects

PLANTED = 2
PROMPTS = ["3+4=?", [5, 60, 7, 812, 9]]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A rank-1 adapter of every layer's output projection, which is zero but for one layer."""
    folder = tmp_path_factory.mktemp("planted")
    lab = qwen3lab.load("tiny-dense", device="cpu", dtype="float32")
    generator = torch.Generator().manual_seed(0)
    n_heads, d_head = lab.config.n_heads, lab.config.d_head
    read = torch.zeros(n_heads, d_head)
    read[1] = torch.randn(d_head, generator=generator)  # It reads one head only.
    written = torch.randn(lab.config.d_model, generator=generator)
    tensors = {}
    for layer in range(lab.config.n_layers):
        module = f"base_model.model.model.layers.{layer}.self_attn.o_proj"
        tensors[f"{module}.lora_A.weight"] = read.reshape(1, -1).clone()
        tensors[f"{module}.lora_B.weight"] = (written * (layer == PLANTED))[:, None].clone()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": 1,
        "lora_alpha": 1,
        "target_modules": ["o_proj"],
        "base_model_name_or_path": str(EMBEDDED / "tiny-dense"),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    lab.adapters.add("planted", folder)
    return lab, read, written


def test_only_the_planted_layer_has_an_effect(planted):
    lab, _, _ = planted
    effects = adapter_effects(lab, "planted", PROMPTS)
    assert effects.layers == tuple(range(lab.config.n_layers))
    others = torch.arange(lab.config.n_layers) != PLANTED
    assert not effects.kl[others].any()
    assert float(effects.kl[PLANTED]) > 0.01
    assert effects.by_layer[PLANTED] == effects.whole
    assert f"layer {PLANTED}" in repr(effects)


def test_activations_differ_from_the_planted_output_on_by_what_was_planted(planted):
    lab, read, written = planted
    hooks = ["blocks.*.attn.hook_z", "blocks.*.hook_attn_out", "blocks.*.hook_resid_pre"]
    base, tuned = (
        each.record(PROMPTS[1], capture=hooks) for each in (lab, lab.adapters.on("planted"))
    )
    for layer in range(PLANTED + 1):
        for name in (f"blocks.{layer}.hook_resid_pre", f"blocks.{layer}.attn.hook_z"):
            assert torch.equal(base[name], tuned[name])
    name = f"blocks.{PLANTED}.hook_attn_out"
    z = base[f"blocks.{PLANTED}.attn.hook_z"][:, 1]
    torch.testing.assert_close(
        tuned[name] - base[name], torch.outer(z @ read[1], written), atol=1e-4, rtol=1e-3
    )
    later = f"blocks.{PLANTED + 1}.hook_resid_pre"
    assert not torch.equal(base[later], tuned[later])
