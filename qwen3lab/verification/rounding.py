"""How far two runs may differ: by the rounding that `transformers` itself shows.

Every activation is computed three times from the same input: by our block and by `transformers` in
the dtype of the model, and by `transformers` in the next wider dtype. The distance of the second
from the third is the rounding error of a correct implementation, on these weights, this prompt and
this hook. Ours may be `FACTOR` times as large. No constant depends on the model, its depth or its
dtype.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

FACTOR = 8.0
"""Allowed multiple of the reference's own rounding error.

Sums in another order, or in a fused kernel, are at most twice as large on tiny-dense and tiny-moe,
in float32 and bfloat16; planted errors are thousands of times as large in float32.
"""
FLOOR = 2.0
"""Rounding units that are always allowed, where the reference happens to round to nothing."""
SMALL_ROW = 0.01
"""Rows that are smaller than this share of the median row are measured against that."""
AFTER_TIE = 0.1
"""Allowed for two streams after a tie of experts has sent a token to different ones."""

WIDER = {
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
    torch.float32: torch.float64,
    torch.float64: torch.float64,
}


@dataclass(frozen=True)
class Distance:
    """How far an activation is from the wider computation, relative to its size.

    Attributes:
        ours: of ours.
        theirs: of `transformers`, in the same dtype.
        allowed: at most, for ours.
    """

    ours: float
    theirs: float
    allowed: float

    @property
    def holds(self) -> bool:
        """False also if ours is NaN."""
        return self.ours <= self.allowed

    @property
    def share(self) -> float:
        """Ours, as a share of what is allowed."""
        return self.ours / self.allowed


def distance(
    ours: Float[Tensor, "*axes d"],
    theirs: Float[Tensor, "*axes d"],
    exact: Float[Tensor, "*axes d"],
    rows: Bool[Tensor, "*batch"] | None = None,
    *,
    typical: bool = False,
) -> Distance:
    """The largest relative error of a row (the last axis), of ours and of `transformers`.

    Args:
        ours: an activation of our model.
        theirs: the same of `transformers`.
        exact: the same, computed in the wider dtype.
        rows: the rows to compare, by the leading axes; None means all.
        typical: compare the median row instead of the worst.
    """
    if rows is not None:
        ours, theirs, exact = ours[rows], theirs[rows], exact[rows]
    if exact.numel() == 0:
        return Distance(0.0, 0.0, 1.0)
    unit = FLOOR * torch.finfo(theirs.dtype).eps
    found = [_relative(each, exact, typical=typical) for each in (ours, theirs)]
    return Distance(found[0], found[1], FACTOR * found[1] + unit)


def _relative(
    found: Float[Tensor, "*axes d"], exact: Float[Tensor, "*axes d"], *, typical: bool
) -> float:
    wide = exact.double()
    size = wide.norm(dim=-1)
    size = torch.maximum(size, SMALL_ROW * size.median()).clamp(min=torch.finfo(wide.dtype).tiny)
    errors = (found.to(wide) - wide).norm(dim=-1) / size
    return float(errors.median() if typical else errors.max())


@dataclass(frozen=True)
class Choices:
    """The experts of each token, compared.

    Attributes:
        n_tokens: number of tokens.
        tied: tokens with other experts, whose router logits are equal within rounding.
        wrong: tokens with other experts, without such a tie.
        same: True for each token with the same experts in all three computations.
    """

    n_tokens: int
    tied: int
    wrong: int
    same: Bool[Tensor, " pos"]


def compare_choices(
    ours: Int[Tensor, "pos k"],
    theirs: Int[Tensor, "pos k"],
    exact: Int[Tensor, "pos k"],
    their_logits: Float[Tensor, "pos expert"],
    exact_logits: Float[Tensor, "pos expert"],
) -> Choices:
    """Compare chosen experts, in any order; a tie is a difference that rounding explains."""
    n_experts = exact_logits.shape[-1]
    sets = [_as_set(each, n_experts) for each in (ours, theirs, exact)]
    differ = (sets[0] != sets[1]).any(dim=-1)
    noise = (their_logits.to(exact_logits) - exact_logits).abs().amax(dim=-1)
    unit = torch.finfo(their_logits.dtype).eps * exact_logits.abs().amax(dim=-1)
    last = exact_logits.topk(ours.shape[-1], dim=-1).values[:, -1:]
    far = (exact_logits - last).abs() > FACTOR * (noise + unit)[:, None]
    wrong = ((sets[0] != sets[1]) & far).any(dim=-1)
    same = ~differ & (sets[1] == sets[2]).all(dim=-1)
    n_wrong = int(wrong.sum())
    return Choices(len(ours), int(differ.sum()) - n_wrong, n_wrong, same)


def by_expert(
    weights: Float[Tensor, "*batch k"], chosen: Int[Tensor, "*batch k"]
) -> Float[Tensor, "*batch k"]:
    """Weights in the order of the experts' numbers, whatever the order of the choice."""
    return weights.gather(-1, chosen.argsort(dim=-1))


def _as_set(chosen: Int[Tensor, "pos k"], n_experts: int) -> Bool[Tensor, "pos expert"]:
    one_hot = torch.zeros(len(chosen), n_experts, dtype=torch.bool, device=chosen.device)
    return one_hot.scatter_(-1, chosen, True)
