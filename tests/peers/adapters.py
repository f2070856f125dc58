"""The compared libraries behind one interface: activations under the names of our hook table.

`activations` runs prompts through a library and returns the hooks of `COMPARED` in the shapes of
the hook table; `LEFT_OUT` says why the others are not compared.
"""

from importlib import import_module

import pytest
import torch
from einops import rearrange
from transformers import AutoModelForCausalLM

from qwen3lab.hooks.points import hook_names
from tests.reference import hf_activations

COMPARED = (
    "hook_embed",
    "hook_resid_pre",
    "attn.hook_q",
    "attn.hook_k",
    "attn.hook_v",
    "attn.hook_pattern",
    "attn.hook_z",
    "hook_attn_out",
    "hook_resid_mid",
    "mlp.hook_pre",
    "mlp.hook_pre_linear",
    "mlp.hook_post",
    "mlp.hook_router_logits",
    "mlp.hook_expert_indices",
    "mlp.hook_expert_weights",
    "hook_mlp_out",
    "hook_resid_post",
    "hook_unembed",
)
LEFT_OUT = {
    "hook_scale": "the libraries have a norm's output, after its weight",
    "hook_normalized": "the libraries have a norm's output, after its weight",
    "attn.hook_rot_q": "of the libraries, only TransformerLens has it",
    "attn.hook_rot_k": "of the libraries, only TransformerLens has it",
    "attn.hook_attn_scores": "each library masks with another value; the pattern is compared",
    "attn.hook_result": "of the libraries, only TransformerLens has it",
    "mlp.hook_expert_out": "no library has it",
}
"""Hooks of the table that are not compared here, and why."""


def compared_names(config):
    """The compared hooks of a model, with their layers."""
    return [name for name in hook_names(config) if name.endswith(COMPARED)]


def of_transformers(folder, dtype):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
    return with_a_loop_over_experts(model.eval())


def with_a_loop_over_experts(hf_model):
    """Without the grouped product, which fails for widths that are no multiple of 16 bytes."""
    hf_model.config._experts_implementation = "eager"
    return hf_model


class Transformers:
    package = "transformers"

    def __init__(self, folder, dtype):
        self.model = of_transformers(folder, dtype)

    def activations(self, ids, config):
        kept = hf_activations(self.model, ids)
        for layer in range(config.n_layers):
            attn = f"blocks.{layer}.attn"
            kept[f"{attn}.hook_z"] = _heads(kept[f"{attn}.flat_z"], config)
        return kept


class TransformerLens:
    package = "transformer_lens"

    def __init__(self, folder, dtype):
        bridge = import_module("transformer_lens.model_bridge").TransformerBridge
        self.model = bridge.boot_transformers(str(folder), device="cpu", dtype=dtype)
        with_a_loop_over_experts(self.model.original_model)

    def activations(self, ids, config):
        _, cache = self.model.run_with_cache(ids)
        points = hook_names(config)
        kept = {}
        for name in compared_names(config):
            kept[name] = cache[points[name].transformer_lens.format(l=_layer(name))]
        for layer in config.moe_layers:
            self._rows(kept, f"blocks.{layer}.mlp", len(ids))
        return kept

    def _rows(self, kept, mlp, n_prompts):
        """Unflatten the routing.

        Their weights have one column for each expert, but by rank if all experts are chosen.
        """
        chosen, weights = (kept[f"{mlp}.hook_expert_{part}"] for part in ("indices", "weights"))
        if weights.shape != chosen.shape:
            kept[f"{mlp}.hook_expert_weights"] = weights.gather(-1, chosen)
        for hook in ("hook_router_logits", "hook_expert_indices", "hook_expert_weights"):
            kept[f"{mlp}.{hook}"] = kept[f"{mlp}.{hook}"].unflatten(0, (n_prompts, -1))


class Nnsight:
    package = "nnsight"

    def __init__(self, folder, dtype):
        self.envoy = import_module("nnsight").NNsight(of_transformers(folder, dtype))

    def activations(self, ids, config):
        envoy, kept = self.envoy, {}
        with envoy.trace(ids, use_cache=False):
            # In the order of the forward pass, which nnsight asks for.
            kept["hook_embed"] = envoy.model.embed_tokens.output.save()
            for number, layer in enumerate(envoy.model.layers):
                block = f"blocks.{number}"
                kept[f"{block}.hook_resid_pre"] = layer.input.save()
                for part in "qkv":
                    projected = getattr(layer.self_attn, f"{part}_proj").output
                    kept[f"{block}.attn.hook_{part}"] = projected.save()
                kept[f"{block}.attn.hook_z"] = layer.self_attn.o_proj.input.save()
                kept[f"{block}.hook_attn_out"] = layer.self_attn.output[0].save()
                kept[f"{block}.attn.hook_pattern"] = layer.self_attn.output[1].save()
                kept[f"{block}.hook_resid_mid"] = layer.post_attention_layernorm.input.save()
                if number in config.moe_layers:
                    logits, weights, chosen = layer.mlp.gate.output
                    kept[f"{block}.mlp.hook_router_logits"] = logits.save()
                    kept[f"{block}.mlp.hook_expert_weights"] = weights.save()
                    kept[f"{block}.mlp.hook_expert_indices"] = chosen.save()
                else:
                    kept[f"{block}.mlp.hook_pre"] = layer.mlp.gate_proj.output.save()
                    kept[f"{block}.mlp.hook_pre_linear"] = layer.mlp.up_proj.output.save()
                    kept[f"{block}.mlp.hook_post"] = layer.mlp.down_proj.input.save()
                kept[f"{block}.hook_mlp_out"] = layer.mlp.output.save()
                kept[f"{block}.hook_resid_post"] = layer.output.save()
            kept["hook_unembed"] = envoy.lm_head.output.save()
        return {name: self._shaped(name, value, len(ids), config) for name, value in kept.items()}

    def _shaped(self, name, value, n_prompts, config):
        if name.endswith(("hook_q", "hook_k", "hook_v", "hook_z")):
            return _heads(value, config)
        return value.unflatten(0, (n_prompts, -1)) if value.ndim == 2 else value


class InterpEngine:
    package = "interp_engine"

    def __init__(self, folder, dtype):
        model = import_module("interp_engine.model").EagerModel
        self.capture = import_module("interp_engine").capture
        self.model = model(str(folder), device="cpu", dtype=dtype, attn_implementation="eager")
        with_a_loop_over_experts(self.model.hf_model)

    def activations(self, ids, config):
        points = hook_names(config)
        asked = {
            name: points[name].interp_engine.format(l=_layer(name))
            for name in compared_names(config)
        }
        cache = self.capture(self.model, ids, list(asked.values()))
        kept = {name: cache[point] for name, point in asked.items()}
        for name in kept:
            if name.endswith(("hook_v", "hook_z")):
                kept[name] = _heads(kept[name], config)
        return kept


def _heads(x, config):
    return rearrange(x, "b p (h d) -> b p h d", d=config.d_head)


def _layer(name):
    return name.split(".")[1] if name.startswith("blocks.") else ""


PEERS = {
    "transformers": Transformers,
    "TransformerLens": TransformerLens,
    "nnsight": Nnsight,
    "interp-engine": InterpEngine,
}


@torch.no_grad()
def activations_of(peer, folder, dtype, ids, config):
    """The activations of a library on a folder; the test is skipped where it is not installed."""
    pytest.importorskip(PEERS[peer].package)
    kept = PEERS[peer](folder, dtype).activations(ids, config)
    return {name: kept[name] for name in compared_names(config) if name in kept}
