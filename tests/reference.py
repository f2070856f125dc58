"""Random Qwen3 models of `transformers`, and their activations under our hook names."""

import copy
from typing import Any

import torch
from einops import rearrange
from transformers import AutoConfig, AutoModelForCausalLM

from qwen3lab.config.qwen3_config import Qwen3Config, Rope

OURS: dict[str, Any] = {
    "d_model": 32,
    "n_layers": 3,
    "n_heads": 4,
    "n_kv_heads": 2,
    "d_head": 16,
    "d_mlp": 48,
    "d_vocab": 50,
    "n_ctx": 256,
    "rope": Rope(theta=1e4),
    "n_experts": 8,
    "n_experts_per_token": 2,
    "d_expert": 16,
    "moe_layers": (1, 2),
}
NO_EXPERTS = {"n_experts": 0, "n_experts_per_token": 0, "d_expert": 0, "moe_layers": ()}


def small_config(**changes: Any) -> Qwen3Config:
    """A small config: one dense layer, then two layers with experts."""
    return Qwen3Config(**(OURS | changes))


SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 80,
    "vocab_size": 97,
    "max_position_embeddings": 256,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
    "pad_token_id": 0,
}
SMALL_MOE = SMALL | {
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 24,
    "norm_topk_prob": True,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
CASES = {
    "dense": ("qwen3", SMALL),
    "dense, tied": ("qwen3", SMALL | {"tie_word_embeddings": True}),
    "dense, one key/value head": ("qwen3", SMALL | {"num_key_value_heads": 1}),
    "dense, a key/value head each": ("qwen3", SMALL | {"num_key_value_heads": 4}),
    "dense, yarn": ("qwen3", SMALL | {"rope_parameters": YARN}),
    "experts": ("qwen3_moe", SMALL_MOE),
    "experts, tied": ("qwen3_moe", SMALL_MOE | {"tie_word_embeddings": True}),
    "experts, weights not renormalised": ("qwen3_moe", SMALL_MOE | {"norm_topk_prob": False}),
    "experts, one dense layer": ("qwen3_moe", SMALL_MOE | {"mlp_only_layers": [1]}),
    "experts, every second layer": ("qwen3_moe", SMALL_MOE | {"decoder_sparse_step": 2}),
    "experts, yarn": ("qwen3_moe", SMALL_MOE | {"rope_parameters": YARN}),
}


def hf_random(name, *, dtype=torch.float32, attention="eager"):
    """A `transformers` model of random weights; norms' weights are random, too, not 1."""
    return random_model(*CASES[name], dtype=dtype, attention=attention)


def random_model(kind, fields, *, dtype=torch.float32, attention="eager"):
    """As `hf_random`, of any config."""
    # A config keeps the rope settings that it is given, and writes into them.
    config = AutoConfig.for_model(kind, **copy.deepcopy(fields))
    config._experts_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn * 0.15 if parameter.ndim > 1 else 1 + 0.3 * drawn)
    return model.eval()


def tokens(batch=2, length=20, *, seed=2, vocab=97):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, vocab, (batch, length), generator=generator)


@torch.no_grad()
def hf_activations(hf, ids, mask=None):
    """Activations of a forward pass of `transformers`, by our hook names.

    A norm's output has the name of the norm, such as `blocks.0.ln1`. It equals our
    `hook_normalized` times the norm's weight.
    """
    kept, handles = {}, []

    def on(module, *, out=None, of=None):
        def hook(_, args, kwargs, output):
            first = args[0] if args else kwargs["hidden_states"]
            if of:
                kept[of] = first
            for name, take in (out or {}).items():
                kept[name] = take(output)

        handles.append(module.register_forward_hook(hook, with_kwargs=True))

    on(hf.model.embed_tokens, out={"hook_embed": _whole})
    for number, layer in enumerate(hf.model.layers):
        _watch_block(on, f"blocks.{number}", layer, batch=len(ids))
    on(hf.model.norm, out={"ln_final": _whole})
    on(hf.lm_head, out={"hook_unembed": _whole})
    try:
        hf(ids, attention_mask=mask, position_ids=positions(mask), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return kept


def positions(mask):
    return None if mask is None else (mask.long().cumsum(1) - 1).clamp(min=0)


def _watch_block(on, name, layer, *, batch):
    attn, mlp = layer.self_attn, layer.mlp

    def heads(x):
        return rearrange(x, "b p (h d) -> b p h d", d=attn.head_dim)

    def rows(x):
        return x.unflatten(0, (batch, -1))

    on(layer, of=f"{name}.hook_resid_pre", out={f"{name}.hook_resid_post": _whole})
    on(layer.input_layernorm, out={f"{name}.ln1": _whole})
    on(layer.post_attention_layernorm, of=f"{name}.hook_resid_mid", out={f"{name}.ln2": _whole})
    for part in "qkv":
        on(getattr(attn, f"{part}_proj"), out={f"{name}.attn.hook_{part}": heads})
    on(attn.o_proj, of=f"{name}.attn.flat_z", out={f"{name}.hook_attn_out": _whole})
    on(attn, out={f"{name}.attn.hook_pattern": lambda output: output[1]})
    on(mlp, out={f"{name}.hook_mlp_out": _whole})
    if hasattr(mlp, "experts"):
        routed = ("hook_router_logits", "hook_expert_weights", "hook_expert_indices")
        on(
            mlp.gate,
            out={
                f"{name}.mlp.{hook}": lambda output, i=i: rows(output[i])
                for i, hook in enumerate(routed)
            },
        )
    else:
        on(mlp.gate_proj, out={f"{name}.mlp.hook_pre": _whole})
        on(mlp.up_proj, out={f"{name}.mlp.hook_pre_linear": _whole})
        on(mlp.down_proj, of=f"{name}.mlp.hook_post")


def _whole(output):
    return output[0] if isinstance(output, tuple) else output


@torch.no_grad()
def our_activations(model, ids, mask=None, names=None):
    """Activations of our forward pass, and norms' outputs as `hf_activations` names them."""
    from qwen3lab.hooks.points import hook_names
    from qwen3lab.hooks.taps import Keep

    tap = Keep(names or hook_names(model.config))
    model(ids, mask=mask, tap=tap)
    kept = dict(tap.kept)
    for path, module in model.named_modules():
        if f"{path}.hook_normalized" in kept:
            kept[path] = module.weight * kept[f"{path}.hook_normalized"]
    for name in [n for n in kept if n.endswith("attn.hook_z")]:
        kept[name.replace("hook_z", "flat_z")] = kept[name].flatten(2)
    return kept


def gap(ours, theirs):
    """The largest difference, divided by the largest reference value if that exceeds 1."""
    assert ours.shape == theirs.shape, f"{ours.shape} is not {theirs.shape}"
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1))
