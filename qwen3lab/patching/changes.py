"""Changes: the activation of a hook after one patch, for each kind of site."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

INDICES = "blocks.{l}.mlp.hook_expert_indices"
WEIGHTS = "blocks.{l}.mlp.hook_expert_weights"
OUT = "blocks.{l}.mlp.hook_expert_out"

Activations = Mapping[str, Tensor]
"""Activations of one prompt by hook name, without a batch axis."""


@dataclass(frozen=True)
class Patch:
    """One patch of one layer.

    Attributes:
        layer: of the model.
        hook: that is edited, with its layer.
        own: activations of the run that is patched.
        other: activations that are put into it.
        to: positions that are patched.
        at: the position in `other` of each of them.
        part: head, neuron or expert; None for all.
    """

    layer: int
    hook: str
    own: Activations
    other: Activations
    to: Int[Tensor, " patched"]
    at: Int[Tensor, " patched"]
    part: int | None

    def mine(self, hook: str) -> Tensor:
        """Activations at the patched positions."""
        return self.own[hook.format(l=self.layer)][self.to]

    def theirs(self, hook: str) -> Tensor:
        """The other run's activations for the patched positions."""
        return self.other[hook.format(l=self.layer)][self.at]


Change = Callable[[Patch], Tensor]
"""The hook's whole activation after a patch; without a batch axis."""


def replaced(patch: Patch) -> Tensor:
    """A vector, or one entry along its second axis, is that of the other run."""
    row = patch.own[patch.hook].clone()
    theirs = patch.other[patch.hook][patch.at]
    if patch.part is None:
        row[patch.to] = theirs
    else:
        row[patch.to, patch.part] = theirs[:, patch.part]
    return row


def pattern(patch: Patch) -> Float[Tensor, "head query key"]:
    """Where one head looks from the patched queries."""
    row = patch.own[patch.hook].clone()
    row[patch.part, patch.to] = patch.other[patch.hook][patch.part, patch.at]
    return row


def _same(patch: Patch) -> Bool[Tensor, "patched slot other"]:
    """True where a slot and a slot of the other run have the same expert, and it is patched."""
    mine, theirs = patch.mine(INDICES), patch.theirs(INDICES)
    return (mine[..., None] == theirs[:, None]) & (mine >= 0)[..., None]


def _is_patched(patch: Patch, experts: Int[Tensor, "patched slot"]) -> Bool[Tensor, "patched slot"]:
    return experts >= 0 if patch.part is None else experts == patch.part


def expert_weights(patch: Patch) -> Float[Tensor, "pos slot"]:
    """Chosen experts keep their slots; each has its weight of the other run, 0 without one."""
    row = patch.own[patch.hook].clone()
    theirs = (_same(patch) * patch.theirs(WEIGHTS)[:, None]).sum(dim=-1)
    mask = _is_patched(patch, patch.mine(INDICES))
    row[patch.to] = theirs.to(row).where(mask, row[patch.to])
    return row


def expert_outputs(patch: Patch) -> Float[Tensor, "pos slot d_model"]:
    """Outputs of the experts that both runs chose; another expert's output stays."""
    row = patch.own[patch.hook].clone()
    same = _same(patch)
    theirs = same.to(row) @ patch.theirs(OUT)
    mask = same.any(dim=-1) & _is_patched(patch, patch.mine(INDICES))
    row[patch.to] = theirs.where(mask[..., None], row[patch.to])
    return row


def expert_choice(patch: Patch) -> Int[Tensor, "pos slot"]:
    """The other run's experts; for one expert, whether it is chosen as in the other run."""
    row = patch.own[patch.hook].clone()
    theirs = patch.other[patch.hook][patch.at]
    if patch.part is None:
        row[patch.to] = theirs
        return row
    mine, has = row[patch.to], (theirs == patch.part).any(dim=-1)
    had = (mine == patch.part).any(dim=-1)
    row[patch.to] = mine.masked_fill((mine == patch.part) & ~has[:, None], -1)
    if not bool((has & ~had).any()):
        return row
    more = F.pad(row, (0, 1), value=-1)
    more[patch.to, -1] = torch.where(has & ~had, patch.part, -1)
    return more


def contribution(patch: Patch) -> Float[Tensor, "pos d_model"]:
    """What one expert adds to the stream, weight times output, is that of the other run."""
    row = patch.own[patch.hook].clone()
    mine = added(patch.part, *(patch.mine(hook) for hook in (INDICES, WEIGHTS, OUT)))
    theirs = added(patch.part, *(patch.theirs(hook) for hook in (INDICES, WEIGHTS, OUT)))
    row[patch.to] += theirs - mine
    return row


def added(
    expert: int | None,
    indices: Int[Tensor, "patched slot"],
    weights: Float[Tensor, "patched slot"],
    out: Float[Tensor, "patched slot d_model"],
) -> Float[Tensor, "patched d_model"]:
    """What one expert adds to the residual stream: weight times output, 0 if it is not chosen."""
    return ((weights * (indices == expert))[:, None] @ out).squeeze(1)
