"""Adapters with random weights, written by peft."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from qwen3lab.checkpoints.embedded import EMBEDDED

peft = pytest.importorskip("peft")
EVERYWHERE = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FUSED = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
KINDS = {
    "plain": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]},
    "rank-stabilised": {"r": 4, "lora_alpha": 3, "use_rslora": True, "target_modules": EVERYWHERE},
    "dora": {"r": 3, "lora_alpha": 6, "use_dora": True, "target_modules": ["o_proj", "down_proj"]},
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": EVERYWHERE,
        "rank_pattern": {"down_proj": 2},
        "alpha_pattern": {"down_proj": 5, "layers.1.self_attn.q_proj": 20},
    },
    "whole modules": {
        "r": 2,
        "lora_alpha": 2,
        "target_modules": ["q_proj"],
        "modules_to_save": ["norm"],
    },
}
FUSED_KINDS = {
    "both": {"target_modules": [], "target_parameters": FUSED},
    "down only": {"target_modules": ["o_proj"], "target_parameters": FUSED[1:]},
    "gate and up only": {"target_modules": [], "target_parameters": FUSED[:1]},
    "named as in transformers 4": {"target_modules": [*EVERYWHERE, "gate"]},
    "router": {"target_modules": [], "target_parameters": ["mlp.gate.weight"]},
}
IDS = [5, 60, 7, 812, 9]


def wrapped(base, *, seed=0, size=0.05, **options):
    """A model of peft with a random adapter on an embedded model, in float32."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(EMBEDDED / base, dtype=torch.float32)
    model.set_attn_implementation("eager")
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **options))
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "modules_to_save" in name or "magnitude" in name:
            parameter.data += size * torch.randn_like(parameter)
    return model.eval()


def saved(folder, base="tiny-dense", **options):
    """Save a random adapter; returns the model of peft, unmerged."""
    model = wrapped(base, **options)
    model.save_pretrained(folder)
    return model


@torch.no_grad()
def logits_of(model, ids=IDS):
    """Logits of a model of transformers or peft, without the batch axis."""
    return model(torch.tensor([ids])).logits[0]
