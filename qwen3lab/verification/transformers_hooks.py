"""Activations of one decoder layer of `transformers`, under our hook names."""

import sys
from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from qwen3lab.device.grad_mode import without_grad

Angles = tuple[Float[Tensor, "1 pos d_head"], Float[Tensor, "1 pos d_head"]]
ROUTER_OUTPUTS = ("hook_router_logits", "hook_expert_weights", "hook_expert_indices")


@without_grad
def run_layer(
    layer: nn.Module,
    resid: Float[Tensor, "1 pos d_model"],
    rotary: Angles,
    mask: Float[Tensor, "1 1 query key"],
) -> dict[str, Tensor]:
    """Run a layer; its activations by the end of our hook names, such as `attn.hook_q`."""
    watch = _Watch()
    try:
        _watch_attention(watch, layer, rotary)
        _watch_mlp(watch, layer)
        positions = torch.arange(resid.shape[1], device=resid.device)[None]
        out = layer(resid, attention_mask=mask, position_ids=positions, position_embeddings=rotary)
    finally:
        watch.stop()
    return {**watch.kept, "hook_resid_post": _first(out)}


class _Watch:
    """Registers forward hooks that keep activations, and removes them."""

    def __init__(self) -> None:
        self.kept: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    def output(self, module: Any, name: str, take: Callable[[Any], Tensor] | None = None) -> None:
        """Keep what `take` finds in a module's output."""

        def keep(_: Any, __: Any, output: Any) -> None:
            self.kept[name] = (take or _first)(output)

        self._handles.append(module.register_forward_hook(keep))

    def input(self, module: Any, name: str, take: Callable[[Tensor], Tensor] | None = None) -> None:
        """Keep a module's first input."""

        def keep(_: Any, given: tuple[Any, ...]) -> None:
            self.kept[name] = take(given[0]) if take else given[0]

        self._handles.append(module.register_forward_pre_hook(keep))

    def stop(self) -> None:
        """Remove all hooks."""
        for handle in self._handles:
            handle.remove()


def _watch_attention(watch: _Watch, layer: Any, rotary: Angles) -> None:
    attn = layer.self_attn
    rotate = sys.modules[type(attn).__module__].apply_rotary_pos_emb

    def heads(x: Tensor) -> Tensor:
        return rearrange(_first(x), "b pos (head d) -> b pos head d", d=attn.head_dim)

    def rotated(x: Tensor) -> Tensor:
        x = _first(x).transpose(1, 2)
        return rotate(x, x, *rotary)[0].transpose(1, 2)

    for part in "qkv":
        watch.output(getattr(attn, f"{part}_proj"), f"attn.hook_{part}", heads)
    for part in "qk":
        watch.output(getattr(attn, f"{part}_norm"), f"attn.hook_rot_{part}", rotated)
    watch.output(attn, "attn.hook_pattern", lambda output: output[1])
    watch.input(attn.o_proj, "attn.hook_z", heads)
    watch.output(attn.o_proj, "hook_attn_out")
    watch.input(layer.post_attention_layernorm, "hook_resid_mid")


def _watch_mlp(watch: _Watch, layer: Any) -> None:
    mlp = layer.mlp
    watch.output(mlp, "hook_mlp_out")
    if hasattr(mlp, "experts"):
        for place, name in enumerate(ROUTER_OUTPUTS):
            watch.output(mlp.gate, f"mlp.{name}", lambda output, place=place: output[place][None])
    else:
        watch.output(mlp.gate_proj, "mlp.hook_pre")
        watch.output(mlp.up_proj, "mlp.hook_pre_linear")
        watch.input(mlp.down_proj, "mlp.hook_post")


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output
