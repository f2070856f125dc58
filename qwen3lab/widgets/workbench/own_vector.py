"""A steering vector of a person's own, as a change of the model that can be listed and kept."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from qwen3lab import steering
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.interventions.positions import check_layer
from qwen3lab.lab import Lab
from qwen3lab.translation import tr

OWN = "vector"
"""Name of a vector that was given without one."""


@dataclass(frozen=True)
class AddVector:
    """A vector added to the residual stream after a layer, from a token on.

    Attributes:
        layer: after which it is added.
        vector: its numbers, as many as the model's d_model.
        by: the factor.
        first: first position where it is added.
        name: to read, and of the variable that holds it in the code.
    """

    layer: int
    vector: tuple[float, ...]
    by: float = 1.0
    first: int = 0
    name: str = OWN

    @property
    def norm(self) -> float:
        """Of what is added."""
        return abs(self.by) * math.hypot(*self.vector)

    @property
    def title(self) -> str:
        """Such as "2 × doubt at layer 3, from token 16"."""
        by = f"{self.by:g}".replace("-", "−")
        if not self.first:
            return tr("{by} × {name} at layer {layer}", by=by, name=self.name, layer=self.layer)
        return tr(
            "{by} × {name} at layer {layer}, from token {first}",
            by=by,
            name=self.name,
            layer=self.layer,
            first=self.first,
        )

    @property
    def part(self) -> tuple[object, ...]:
        """The name, the layer and the position."""
        return ("add vector", self.name, self.layer, self.first)

    def intervention(self, lab: Lab) -> Any:
        """The edits of one run."""
        direction = torch.tensor(self.vector)
        found = steering.from_direction(lab, direction, layer=self.layer, made_by=self.name)
        return self.by * found.at(positions=slice(self.first, None))

    def code(self) -> str:
        """A Python expression for the same edits; the variable of this name holds the numbers."""
        found = f"steering.from_direction(lab, {self.name}, layer={self.layer})"
        return f"{self.by!r} * {found}.at(positions={slice(self.first, None)})"

    def given(self) -> str:
        """A comment that says what the variable in the code has to hold."""
        numbers = f"{len(self.vector)} numbers, of norm {math.hypot(*self.vector):.4g}"
        return f"# {self.name} is your own vector: a tensor of {numbers}\n"

    def check(self, config: Qwen3Config) -> None:
        """Check that a model has the layer, and that the vector is of its size.

        Raises:
            HookError: it has no such layer.
            ValueError: the vector has another size.
        """
        check_layer(self.layer, config)
        if len(self.vector) != config.d_model:
            raise ValueError(
                tr(
                    "the vector has {n} numbers: expected d_model of this model, {expected}",
                    n=len(self.vector),
                    expected=config.d_model,
                )
            )


def own_vector(
    vector: Any, layer: int, *, by: float = 1.0, first: int = 0, name: str = OWN
) -> AddVector:
    """The change that adds a vector after a layer.

    Args:
        vector: a `steering.Vector` with a direction at the layer, a tensor, or numbers.
        layer: after which it is added.
        by: the factor.
        first: first position where it is added.
        name: an identifier of Python, which names it in the list and in the code.

    Raises:
        HookError: a `steering.Vector` has no direction at the layer.
        ValueError: a number is not finite, the position is negative, or the name is no identifier.
    """
    numbers = _numbers(vector[layer] if isinstance(vector, steering.Vector) else vector)
    if not all(map(math.isfinite, (*numbers, by))):
        raise ValueError(
            tr("the vector and its factor have to be finite numbers: found NaN or inf")
        )
    if not name.isidentifier():
        raise ValueError(
            tr("{name!r} cannot name a vector: expected a name such as doubt", name=name)
        )
    if first < 0:
        raise ValueError(tr("token {first} does not exist: positions start at 0", first=first))
    return AddVector(layer, numbers, float(by), first, name)


def _numbers(vector: Any) -> tuple[float, ...]:
    """The numbers of a vector.

    Raises:
        ValueError: it is none.
    """
    is_sequence = isinstance(vector, Sequence) and not isinstance(vector, str)
    found = torch.as_tensor(vector) if is_sequence or hasattr(vector, "__array__") else None
    if found is None or found.ndim != 1:
        shape = "" if found is None else tr(" of shape {shape}", shape=tuple(found.shape))
        raise ValueError(
            tr(
                "{kind} is no vector: expected a tensor of d_model numbers, or a steering.Vector",
                kind=type(vector).__name__ + shape,
            )
        )
    return tuple(found.detach().cpu().double().tolist())
