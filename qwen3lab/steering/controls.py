"""Controls of a steering vector: other directions of the same norms, at the same places."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.arguments import Seed, checked
from qwen3lab.steering.vector import Vector

Direction = Float[Tensor, " d_model"]


@checked
def random_control(vector: Vector, *, seed: Seed = 0) -> Vector:
    """Random directions in place of the vector's, each with the norm of the one it replaces.

    Args:
        vector: that is controlled for.
        seed: of the directions, drawn evenly from the sphere.
    """

    def drawn(direction: Direction, generator: torch.Generator) -> Direction:
        other = torch.randn(direction.shape, generator=generator)
        return other * (direction.norm() / other.norm())

    return _replaced(vector, drawn, seed, f"random direction, seed {seed}")


@checked
def shuffled_control(vector: Vector, *, seed: Seed = 0) -> Vector:
    """The placebo: the vector's own values in a random order, so its norms and largest values stay.

    Args:
        vector: that is controlled for.
        seed: of the orders.
    """

    def shuffled(direction: Direction, generator: torch.Generator) -> Direction:
        return direction[torch.randperm(len(direction), generator=generator)]

    return _replaced(vector, shuffled, seed, f"shuffled values, seed {seed}")


def _replaced(
    vector: Vector,
    other: Callable[[Direction, torch.Generator], Direction],
    seed: int,
    made_by: str,
) -> Vector:
    generator = torch.Generator().manual_seed(seed)
    additions = tuple(
        replace(each, direction=other(each.direction, generator)) for each in vector.additions
    )
    return replace(vector, additions=additions, made_by=made_by)
