"""Refuses next-token distributions that are NaN or infinite, by the place of the first value."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from qwen3lab.errors import NonFiniteError
from qwen3lab.recording.non_finite import FirstNonFinite
from qwen3lab.translation import tr


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
    which = tr(" of prompt {row}", row=row) if len(texts) > 1 else ""
    place = (
        tr(
            "{name} at token {position} is the first activation that is not",
            name=finder.name,
            position=finder.position,
        )
        if finder.name
        else tr("a pass without edits and without earlier tokens is finite, so they cause it")
    )
    more = tr(": float16 overflows above 65504, so load the model in bfloat16 or float32")
    raise NonFiniteError(
        tr(
            "the logits after {n_texts} tokens{which} are NaN or infinite in {dtype}; {place}",
            n_texts=len(texts[row]),
            which=which,
            dtype=dtype,
            place=place,
        )
        + (more if dtype == "float16" else "")
    )
