"""Interventions on what a part writes: a head, attention, the MLP, a layer or an expert, scaled.

Each function returns a `Scaled` to pass as `edits`. A factor of 0 takes the part away, 2 doubles
what it writes, -1 turns it around. Unlike `rerouting.off`, a scaled expert is chosen as before and
the weights of the others stay.

    lab.chat(question, edits=[scaling.head(4, 1), scaling.mlp(3, by=0.5)])
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.arguments import check_fields, checked
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import HookError
from qwen3lab.hooks.edits import Edit
from qwen3lab.interventions.positions import (
    Chosen,
    RunPositions,
    Tokens,
    among,
    check_layer,
    chosen,
)
from qwen3lab.translation import tr

Part = Literal["head", "attention", "mlp", "layer", "expert"]

_ATTN_OUT, _MLP_OUT = "blocks.{}.hook_attn_out", "blocks.{}.hook_mlp_out"
_HOOKS: dict[Part, tuple[str, ...]] = {
    "head": ("blocks.{}.attn.hook_z",),
    "attention": (_ATTN_OUT,),
    "mlp": (_MLP_OUT,),
    "layer": (_ATTN_OUT, _MLP_OUT),
    "expert": ("blocks.{}.mlp.hook_expert_weights",),
}
_CHOICE = "blocks.{}.mlp.hook_expert_indices"


@dataclass(frozen=True)
class Scaled:
    """One part of the model, whose output is multiplied by a factor.

    Attributes:
        part: "head", "attention", "mlp", "layer" (attention and MLP) or "expert".
        layer: of the model, from 0 on.
        number: of the head or the expert; 0 for the other parts.
        by: the factor.
        tokens: positions in the text, or a slice of them; None means all.
    """

    part: Part
    layer: int
    number: int = 0
    by: float = 0.0
    tokens: Chosen | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def edits(self, config: Qwen3Config, padding: Sequence[int]) -> Mapping[str, Edit]:
        """The edits for one run, by hook name; see `qwen3lab.hooks.edits.Intervention`.

        Raises:
            HookError: the model has no such layer, head or expert.
        """
        self._check(config)
        run = _Run(self, padding)
        edit = {"head": run.head, "expert": run.weights}.get(self.part, run.stream)
        hooks = [name.format(self.layer) for name in _HOOKS[self.part]]
        edits = {"hook_embed": run.positions.count, **dict.fromkeys(hooks, edit)}
        return edits | ({_CHOICE.format(self.layer): run.chosen} if self.part == "expert" else {})

    def _check(self, config: Qwen3Config) -> None:
        check_layer(self.layer, config)
        if self.part == "expert" and self.layer not in config.moe_layers:
            raise HookError(tr("layer {layer} has no experts to scale", layer=self.layer))
        counts = {"head": config.n_heads, "expert": config.n_experts}
        n = counts.get(self.part, 1)
        if not 0 <= self.number < n:
            raise HookError(
                tr(
                    "{part} {number} does not exist: each layer has {part}s 0 to {last}",
                    part=self.part,
                    number=self.number,
                    last=n - 1,
                )
            )


class _Run:
    """The edits of one run, which share the positions of its tokens."""

    def __init__(self, scaled: Scaled, padding: Sequence[int]) -> None:
        self.scaled, self.positions = scaled, RunPositions(padding)
        self.chosen = _Chosen()

    def factors(self, n_positions: int) -> Float[Tensor, "batch pos"]:
        """The factor of each of the last positions of the pass: 1 where nothing is scaled."""
        # The last hooks of a pass may have its last position only.
        here = among(self.positions.now[:, -n_positions:], self.scaled.tokens)
        return torch.where(here, self.scaled.by, 1.0)

    def stream(self, value: Float[Tensor, "batch pos d_model"], name: str) -> Tensor:
        """Scale what is added to the stream."""
        return value * self.factors(value.shape[1])[..., None].to(value)

    def head(self, z: Float[Tensor, "batch pos head d_head"], name: str) -> Tensor:
        """Scale one head's mixed values: its output is linear in them."""
        head = self.scaled.number
        z[:, :, head] *= self.factors(z.shape[1])[..., None].to(z)
        return z

    def weights(self, value: Float[Tensor, "batch pos slot"], name: str) -> Tensor:
        """Scale the weight of one expert, where it is chosen."""
        factors = self.factors(value.shape[1])[..., None].to(value)
        return torch.where(self.chosen.experts == self.scaled.number, value * factors, value)


class _Chosen:
    """Keeps the experts of the current pass, after all edits of the choice; changes nothing."""

    def __init__(self) -> None:
        self.experts: Int[Tensor, "batch pos slot"] = torch.zeros(1, 0, 0, dtype=torch.long)

    def __call__(self, value: Int[Tensor, "batch pos slot"], name: str) -> None:
        """Leave the choice as it is."""

    def settled(self, value: Int[Tensor, "batch pos slot"], name: str) -> None:
        """Receive the experts that weights belong to."""
        self.experts = value


@checked
def head(layer: int, head: int, *, by: float = 0.0, tokens: Tokens | None = None) -> Scaled:
    """Scale what one query head adds to the stream.

    Args:
        layer: of the model, from 0 on.
        head: of the layer.
        by: the factor; 0 takes the part away.
        tokens: positions in the text from 0 on, or a slice of them; None means all.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab.interventions import scaling
        >>> lab = qwen3lab.load("tiny-moe")
        >>> rec = lab.record("3+4=?", edits=scaling.head(2, 1), capture="blocks.2.attn.hook_z")
        >>> float(rec["blocks.2.attn.hook_z"][:, 1].abs().max())
        0.0
    """
    return Scaled("head", layer, head, float(by), _places(tokens))


@checked
def attention(layer: int, *, by: float = 0.0, tokens: Tokens | None = None) -> Scaled:
    """Scale what all heads of a layer add to the stream. Arguments as in `head`."""
    return Scaled("attention", layer, 0, float(by), _places(tokens))


@checked
def mlp(layer: int, *, by: float = 0.0, tokens: Tokens | None = None) -> Scaled:
    """Scale what the MLP or the experts of a layer add to the stream. Arguments as in `head`."""
    return Scaled("mlp", layer, 0, float(by), _places(tokens))


@checked
def layer(layer: int, *, by: float = 0.0, tokens: Tokens | None = None) -> Scaled:
    """Scale what attention and MLP of a layer add to the stream. Arguments as in `head`."""
    return Scaled("layer", layer, 0, float(by), _places(tokens))


@checked
def expert(layer: int, expert: int, *, by: float = 0.0, tokens: Tokens | None = None) -> Scaled:
    """Scale what one expert adds where it is chosen. Other arguments as in `head`."""
    return Scaled("expert", layer, expert, float(by), _places(tokens))


def _places(tokens: Tokens | None) -> Chosen | None:
    return None if tokens is None else chosen(tokens)
