"""Names the first activation of a pass or a recording that is NaN or infinite."""

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.hooks.edit_values import RULED_OUT
from qwen3lab.hooks.points import PATTERN_HOOKS, hook_names
from qwen3lab.translation import tr

LARGEST_FLOAT16 = "float16 overflows above 65504"


class FirstNonFinite:
    """A tap that notes the first activation with a value that is NaN or infinite.

    Attributes:
        name: of its hook; "" while every activation was finite.
        position: of the first token at which it is not finite.
    """

    def __init__(self) -> None:
        self.name, self.position = "", 0

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Look at an activation, and return it unchanged."""
        if not self.name and value.is_floating_point() and not bool(value.isfinite().all()):
            broken = ~value[0].isfinite().flatten(1).all(dim=1)
            self.name, self.position = name, int(broken.nonzero()[0])
        return value

    def wants(self, name: str) -> bool:
        """Nothing is computed for its sake: masked scores are infinite in a sound model, too."""
        return False


class NonFiniteWarning:
    """Warns of the first recorded activation that is NaN or infinite, once for a recording.

    One pass over the values finds that there is one: a sum keeps every NaN and infinity.

    Args:
        config: of the model.
        n_prompts: number of prompts; the message names the prompt if there are several.
    """

    def __init__(self, config: Qwen3Config, n_prompts: int = 1) -> None:
        self.names, self.n_prompts, self.has_warned = tuple(hook_names(config)), n_prompts, False

    def look(self, activations: Mapping[str, Tensor], prompt: int = 0) -> None:
        """Look at activations of one prompt, by hook name, without batch axis and padding."""
        for name in self.names if not self.has_warned else ():
            value = activations.get(name)
            if value is None or not value.is_floating_point() or _is_sound(value, name):
                continue
            rules_out = name.endswith(RULED_OUT)
            broken = (value.isnan() | value.isposinf()) if rules_out else ~value.isfinite()
            if bool(broken.any()):  # Else the sum of large values was infinite.
                self._warn(name, value, broken, prompt)
                return

    def _warn(self, name: str, value: Tensor, broken: Tensor, prompt: int) -> None:
        self.has_warned = True
        kind, token = str(value.dtype).removeprefix("torch."), _first_token(broken, name)
        found = "NaN" if bool(value.isnan().any()) else "infinite"
        which = tr(" of prompt {prompt}", prompt=prompt) if self.n_prompts > 1 else ""
        more = (
            tr(
                "; {largest_float16}: record in bfloat16 or float32",
                largest_float16=LARGEST_FLOAT16,
            )
            if kind == "float16"
            else ""
        )
        warnings.warn(
            tr(
                "{name} is {found} at token {token}{which} ({kind}), the first such "
                "activation among those recorded: what is computed from it is not a "
                "number{more}",
                name=name,
                found=found,
                token=token,
                which=which,
                kind=kind,
                more=more,
            ),
            stacklevel=6,
        )


def _is_sound(value: Tensor, name: str) -> bool:
    if not value.numel():
        return True
    if name.endswith(RULED_OUT):
        return bool(value.amax() < torch.inf)
    return bool(value.sum(dtype=torch.float32).isfinite())


def _first_token(broken: Tensor, name: str) -> int:
    """The first position; scores and patterns count the query as position."""
    tokens = broken.transpose(0, 1) if name.endswith(PATTERN_HOOKS) else broken
    return int(tokens.flatten(1).any(dim=1).nonzero()[0])
