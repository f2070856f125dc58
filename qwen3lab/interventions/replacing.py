"""Interventions at single tokens: hide some from later ones, or put an activation in place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.arguments import check_fields, checked
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.hooks.edits import Edit
from qwen3lab.interventions.positions import (
    Chosen,
    RunPositions,
    Tokens,
    among,
    check_layer,
    chosen,
)


@dataclass(frozen=True)
class Hidden:
    """Tokens that no other token attends to: their scores are minus infinity in every head.

    The hidden tokens still see each other, and every token sees itself.

    Attributes:
        tokens: positions in the text, or a slice of them.
        layers: in which they are hidden; None means all.
    """

    tokens: Chosen
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def edits(self, config: Qwen3Config, padding: Sequence[int]) -> Mapping[str, Edit]:
        """The edits for one run, by hook name; see `qwen3lab.hooks.edits.Intervention`.

        Raises:
            HookError: the model has no such layer.
        """
        layers = range(config.n_layers) if self.layers is None else self.layers
        for layer in layers:
            check_layer(layer, config)
        positions = RunPositions(padding)
        edit = partial(self._hide, positions)
        edits: dict[str, Edit] = {"hook_embed": positions.count}
        return edits | {f"blocks.{layer}.attn.hook_attn_scores": edit for layer in layers}

    def _hide(
        self, run: RunPositions, scores: Float[Tensor, "batch head query key"], name: str
    ) -> Float[Tensor, "batch head query key"]:
        hidden = among(run.keys(scores.device), self.tokens)
        seeing = ~among(run.now[:, -scores.shape[2] :], self.tokens)
        return scores.masked_fill((seeing[:, :, None] & hidden[:, None])[:, None], -torch.inf)


@dataclass(frozen=True, eq=False)
class AtToken:
    """Puts a vector in place of the activation of one token, in the prompt or in the reply.

    Attributes:
        hook: of the activation.
        position: of the token in the conversation.
        value: the vector, or one number for all of its entries.
    """

    hook: str
    position: int
    value: Float[Tensor, "..."]

    def edits(self, config: Qwen3Config, padding: Sequence[int]) -> Mapping[str, Edit]:
        """The edits for one run; see `qwen3lab.hooks.edits.Intervention`."""
        positions = RunPositions(padding)
        edit = partial(self._replace, positions)
        if self.hook == "hook_embed":
            return {self.hook: lambda embed, name: edit(_counted(positions, embed, name), name)}
        return {"hook_embed": positions.count, self.hook: edit}

    def _replace(
        self, run: RunPositions, value: Float[Tensor, "batch pos ..."], name: str
    ) -> Float[Tensor, "batch pos ..."]:
        here = run.now[:, -value.shape[1] :] == self.position
        return torch.where(here[..., None], self.value.to(value), value)


@checked
def hidden(tokens: Tokens, *, layers: Sequence[int] | None = None) -> Hidden:
    """Hide tokens from all tokens after them: what they say cannot be read from them any more.

    Args:
        tokens: positions in the text from 0 on, or a slice of them.
        layers: in which they are hidden; None means all.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab.interventions import replacing
        >>> lab = qwen3lab.load("tiny-moe")
        >>> rec = lab.record("3+4=?", edits=replacing.hidden(1))
        >>> float(rec.attention.pattern(0)[:, 2:, 1].max())
        0.0
    """
    return Hidden(chosen(tokens), None if layers is None else tuple(layers))


def _counted(positions: RunPositions, embed: Tensor, name: str) -> Tensor:
    positions.count(embed, name)
    return embed
