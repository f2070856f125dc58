"""Finds the first activation that is NaN or infinite, when a pass gave such logits."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import NonFiniteError
from qwen3lab.hooks.points import PATTERN_HOOKS, hook_names


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


def refuse_non_finite(
    model: Any, texts: Sequence[Sequence[int]], broken: Bool[Tensor, " batch"]
) -> None:
    """Raise an error that names the place if a row's next-token distribution is not one.

    The place is found by a second pass over the row alone, without edits.

    Args:
        model: the model, or what runs its passes.
        texts: the token ids of each row, prompt and reply.
        broken: True where the logits of the next token are NaN or infinite.

    Raises:
        NonFiniteError: a row is broken.
    """
    if not bool(broken.any()):
        return
    row = int(broken.nonzero()[0])
    finder, ids = FirstNonFinite(), torch.tensor([list(texts[row])], device=model.device)
    with torch.no_grad():
        logits = model(ids, tap=finder, last_only=True)
    dtype = str(logits.dtype).removeprefix("torch.")
    which = f" of prompt {row}" if len(texts) > 1 else ""
    place = (
        f"{finder.name} at token {finder.position} is the first activation that is not"
        if finder.name
        else "a pass without edits and without earlier tokens is finite, so they cause it"
    )
    more = ": float16 overflows above 65504, so load the model in bfloat16 or float32"
    raise NonFiniteError(
        f"the logits after {len(texts[row])} tokens{which} are NaN or infinite in {dtype}; {place}"
        + (more if dtype == "float16" else "")
    )


def warn_non_finite(activations: Mapping[str, Tensor], config: Qwen3Config) -> None:
    """Warn if the recorded logits of the last token are NaN or infinite; name the first such hook.

    The last token alone is looked at, because attention carries a NaN to all later tokens.

    Args:
        activations: of one prompt on the CPU, by hook name; the first axis is the token.
        config: of the model.
    """
    last = activations["hook_unembed"][-1:]
    # -inf is allowed: it is how an edit rules a token out.
    if not bool(last.isnan().any()) and not bool(last.isposinf().any()):
        return
    finder = FirstNonFinite()
    for name in hook_names(config):
        if name in activations and not name.endswith(PATTERN_HOOKS):
            finder(name, activations[name][None])
    warnings.warn(
        f"the recorded logits are NaN or infinite: {finder.name} at token {finder.position} is the "
        f"first such activation among those recorded ({str(last.dtype).removeprefix('torch.')})",
        stacklevel=3,
    )
