"""Activations of prompts that steering vectors are made from."""

from collections.abc import Iterable, Sequence
from contextlib import closing

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.errors import HookError
from qwen3lab.lab import Lab
from qwen3lab.recording.weights_fingerprint import fingerprint
from qwen3lab.steering.addition import Addition, check_hook
from qwen3lab.steering.vector import Vector
from qwen3lab.text.prompt import Prompt, as_prompts
from qwen3lab.translation import tr

Layers = int | Iterable[int] | None
"""One layer, several, or None for all; negative numbers count from the end."""

BATCH_SIZE = 16
"""Maximum number of prompts that run at once."""
PROGRESS_DELAY_SECONDS = 2.0
"""Work that takes longer shows a progress bar."""


def prompt_states(
    lab: Lab, prompts: Sequence[Prompt], names: Sequence[str], *, tokens: str, progress: bool
) -> Float[Tensor, "prompt hook d_model"]:
    """The activation of each prompt at each hook: of its last token, or the mean over its tokens.

    Args:
        lab: that runs the prompts, in batches of similar length.
        prompts: text, chat messages or token ids.
        names: of hooks with the axes token and d_model.
        tokens: "last" or "all".
        progress: show a progress bar if it takes long.

    Raises:
        ValueError: there is no prompt, or one that the model cannot read.
    """
    if tokens not in ("last", "all"):
        raise ValueError(tr('tokens is {tokens!r}: expected "last" or "all"', tokens=tokens))
    rows = [lab.token_ids(each) for each in as_prompts(prompts)]
    if not rows:
        raise ValueError(tr("there is no prompt: expected at least one on each side"))
    found = torch.empty(len(rows), len(names), lab.config.d_model)
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    options = {"unit": tr("prompt"), "delay": PROGRESS_DELAY_SECONDS, "disable": not progress}
    with closing(tqdm(total=len(rows), leave=False, **options)) as bar:
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            texts = [rows[index] for index in batch]
            recordings = lab.record_batch(texts, capture=names, attention=False)
            for index, rec in zip(batch, recordings, strict=True):
                stream = torch.stack([rec[name] for name in names])
                found[index] = stream[:, -1] if tokens == "last" else stream.mean(dim=1)
            bar.update(len(batch))
    return found


def layers_of(lab: Lab, layer: int | Iterable[int] | None) -> tuple[int, ...]:
    """Layer numbers counted from 0, each once; None means all layers.

    Raises:
        HookError: a layer does not exist, or none is named.
    """
    n = lab.config.n_layers
    if layer is None:
        return tuple(range(n))
    numbers = [layer] if isinstance(layer, int) else list(layer)
    for number in numbers:
        if not -n <= number < n:
            raise HookError(
                tr(
                    "layer {number} does not exist: {name} has layers 0 to {last}",
                    number=number,
                    name=lab.name,
                    last=n - 1,
                )
            )
    if not numbers:
        raise HookError(tr("the list of layers is empty: name at least one, or None for all"))
    return tuple(sorted({number % n for number in numbers}))


def hooks_of(lab: Lab, layer: Layers, hook: str) -> tuple[tuple[int, ...], list[str]]:
    """The layers, and the name of the hook in each of them.

    Raises:
        HookError: a layer or the hook does not exist.
    """
    check_hook(hook)
    layers = layers_of(lab, layer)
    return layers, [f"blocks.{each}.{hook}" for each in layers]


def made_vector(
    lab: Lab,
    layers: Sequence[int],
    directions: Float[Tensor, "layer d_model"],
    hook: str,
    made_by: str,
) -> Vector:
    """A vector with a direction at each of the layers, made with this model.

    Raises:
        ValueError: a direction is zero.
    """
    zero = [layer for layer, each in zip(layers, directions, strict=True) if not bool(each.any())]
    if zero:
        raise ValueError(
            tr(
                "the direction at layer {zero} is zero, as both sides are the same "
                "there: give other prompts or another layer",
                zero=zero[0],
            )
        )
    pairs = zip(layers, directions, strict=True)
    additions = tuple(Addition(layer, direction, hook) for layer, direction in pairs)
    return Vector(additions, made_by, lab.name, fingerprint(lab.model))
