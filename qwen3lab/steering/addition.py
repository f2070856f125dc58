"""A direction that is added at one hook of a run."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from qwen3lab.arguments import check_fields
from qwen3lab.errors import HookError
from qwen3lab.hooks.points import HOOK_POINTS
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.steering.places import EVERYWHERE, Everywhere
from qwen3lab.translation import tr

RESID_POST = "hook_resid_post"
"""Hook of a layer that vectors are added to unless another one is named."""

STREAM_HOOKS = tuple(
    point.pattern.removeprefix("blocks.{l}.")
    for point in HOOK_POINTS
    if point.pattern.startswith("blocks.{l}.hook_") and point.axes == "batch pos d_model"
)
"""Hooks of a layer that are the residual stream or are added to it."""


@dataclass(frozen=True, eq=False)
class Addition(EqualByValue):
    """A direction at one hook.

    Attributes:
        layer: of the model, from 0 on.
        direction: what is added, in units of the activation.
        hook: name within the layer, one of `STREAM_HOOKS`.
        place: the tokens that it is added to.
    """

    layer: int
    direction: Float[Tensor, " d_model"]
    hook: str = RESID_POST
    place: Everywhere = EVERYWHERE

    def __post_init__(self) -> None:
        check_fields(self)
        if self.layer < 0:
            raise HookError(
                tr("layer {layer} is negative: a vector counts layers from 0", layer=self.layer)
            )
        if not bool(self.direction.isfinite().all()):
            raise HookError(
                tr("the direction for layer {layer} is NaN or infinite", layer=self.layer)
            )
        check_hook(self.hook)
        # A copy: the direction cannot be changed from outside.
        object.__setattr__(self, "direction", self.direction.detach().cpu().float().clone())

    @property
    def name(self) -> str:
        """The hook's full name."""
        return f"blocks.{self.layer}.{self.hook}"

    @property
    def norm(self) -> float:
        """Euclidean length of the direction."""
        return float(self.direction.norm())


def check_hook(hook: str) -> None:
    """Raises `HookError` for a hook that no direction of the residual stream can be added to."""
    if hook not in STREAM_HOOKS:
        raise HookError(
            tr(
                "{hook!r} is no hook of a layer with an axis d_model: choose from {stream_hooks}",
                hook=hook,
                stream_hooks=", ".join(STREAM_HOOKS),
            )
        )
