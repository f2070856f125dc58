"""Linear layers and experts with a low-rank change that is computed beside the weights.

The weights themselves are shared with the model that they come from, and never written to.
"""

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.model.experts import Product
from qwen3lab.model.transformer import Experts


class Adapted(nn.Module):
    """Marks what has a change of its own; such a model is not saved as a checkpoint."""


class AdaptedLinear(Adapted):
    """A linear layer plus B A, both multiplied with the input in turn.

    Args:
        base: the layer: in memory, or quantised.
        a: A, at least float32; the product is computed in its dtype.
        b: B, with all factors.
    """

    base: Any
    a: Tensor
    b: Tensor

    def __init__(
        self, base: nn.Module, a: Float[Tensor, "rank in"], b: Float[Tensor, "out rank"]
    ) -> None:
        super().__init__()
        self.base = base
        self.register_buffer("a", a)
        self.register_buffer("b", b)

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The matrix with its change, in the layer's dtype; computed on access."""
        weight = self.base.weight
        return (weight + self.b @ self.a).to(weight.dtype)

    def forward(self, x: Float[Tensor, "*any in"]) -> Float[Tensor, "*any out"]:
        out = self.base(x)
        return (out + low_rank(x, self.a, self.b)).to(out.dtype)


class RescaledLinear(AdaptedLinear):
    """A linear layer plus B A whose rows are rescaled (DoRA).

    Args:
        base: the layer.
        a: A.
        b: B, with its factor.
        rows: factor of each row of W + B A.
        strength: of the whole difference to the layer.
    """

    shares: Tensor

    def __init__(
        self,
        base: nn.Module,
        a: Float[Tensor, "rank in"],
        b: Float[Tensor, "out rank"],
        rows: Float[Tensor, " out"],
        strength: float,
    ) -> None:
        super().__init__(base, a, b)
        # As a tensor, so that it is part of the weights' fingerprint.
        self.register_buffer("shares", torch.stack([rows * strength, rows * strength - strength]))

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The matrix with its change, in the layer's dtype; computed on access."""
        weight, (changed, more) = self.base.weight, self.shares
        return (weight * (1 + more[:, None]) + changed[:, None] * (self.b @ self.a)).to(
            weight.dtype
        )

    def forward(self, x: Float[Tensor, "*any in"]) -> Float[Tensor, "*any out"]:
        out, (changed, more) = self.base(x), self.shares
        return (out + out * more + low_rank(x, self.a, self.b) * changed).to(out.dtype)


class AdaptedExperts(Adapted, Experts):
    """Experts with a low-rank change of their matrices; only experts with tokens are run.

    Args:
        config: of the model.
        layer: its number.
        base: the layer's experts: in memory, streamed or quantised.
        router: of the layer, which may have a change of its own.
        changes: A and B of all experts, by "gate_up" and "down"; one may be missing.
    """

    stacked = False

    def __init__(
        self,
        config: Qwen3Config,
        layer: int,
        base: Experts,
        router: nn.Module,
        changes: Mapping[
            str, tuple[Float[Tensor, "expert rank in"], Float[Tensor, "expert out rank"]]
        ],
    ) -> None:
        super().__init__(config, layer, device="meta")
        self.router = router
        del self.gate_up, self.down
        self.gate_up, self.down = base.gate_up, base.down
        self._base = (base,)  # In a tuple, so that its weights are not registered twice.
        self._changed = tuple(changes)
        for name, (a, b) in changes.items():
            self.register_buffer(f"{name}_a", a)
            self.register_buffer(f"{name}_b", b)

    def products(self, experts: list[int]) -> Iterator[tuple[Product, Product]]:
        """For each expert, its two products, each with its change."""
        # Closed here, so that an interrupt does not keep streamed weights alive.
        found = cast(
            Generator[tuple[Product, Product], None, None], self._base[0].products(experts)
        )
        with closing(found):
            for expert, (gate_up, down) in zip(experts, found, strict=True):
                yield (
                    self._with_change("gate_up", expert, gate_up),
                    self._with_change("down", expert, down),
                )

    def _with_change(self, name: str, expert: int, product: Product) -> Product:
        if name not in self._changed:
            return product
        a, b = self.get_buffer(f"{name}_a")[expert], self.get_buffer(f"{name}_b")[expert]
        return partial(_sum, product, a, b)


def low_rank(
    x: Float[Tensor, "*any in"], a: Float[Tensor, "rank in"], b: Float[Tensor, "out rank"]
) -> Float[Tensor, "*any out"]:
    """The product of x with B A, in the dtype of A and B."""
    return F.linear(F.linear(x.to(a.dtype), a), b)


def _sum(product: Product, a: Tensor, b: Tensor, x: Float[Tensor, "token in"]) -> Tensor:
    out = product(x)
    return (out + low_rank(x, a, b)).to(out.dtype)
