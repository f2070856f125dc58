"""Fits a Jacobian lens: exact rows of the Jacobian of each prompt, and their mean."""

import warnings
from collections.abc import Sequence
from contextlib import closing

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.arguments import Count, CountOrNone, checked
from qwen3lab.device.grad_mode import with_grad
from qwen3lab.display import count
from qwen3lab.interrupts import HeldInterrupts
from qwen3lab.lab import Lab
from qwen3lab.lenses.jacobian import JacobianLens
from qwen3lab.metrics.gradients import CHOICE_NOTE, check_has_gradients
from qwen3lab.recording.weights_fingerprint import fingerprint
from qwen3lab.text.prompt import Prompt, as_prompts
from qwen3lab.translation import tr

SKIPPED_FIRST = 16
"""Positions at the beginning that are left out, as in published lenses."""
MAX_TOKENS = 128
"""Tokens of a prompt that are used, as in published lenses."""


@checked
def fit_jacobian(
    lab: Lab,
    prompts: Sequence[Prompt],
    *,
    skip_first: CountOrNone = SKIPPED_FIRST,
    max_tokens: Count = MAX_TOKENS,
    rows_at_once: Count = 8,
    progress: bool = True,
) -> JacobianLens:
    """Fit a Jacobian lens: the mean over prompts of d h_final / d h_l, for all layers but the last.

    The rows of a prompt's Jacobians are exact: one backward pass for each dimension of the residual
    stream, several at a time. In a mixture of experts, the choice of experts has no gradient.

    Args:
        lab: a model in memory, with the weights as stored.
        prompts: text, chat messages or token ids; those without a valid position are left out, with
            a warning.
        skip_first: positions at the beginning of a prompt that are not valid.
        max_tokens: of a prompt; the rest is cut off.
        rows_at_once: rows of the Jacobian in one backward pass; memory grows with them.
        progress: show a progress bar.

    Returns:
        The matrices; after a keyboard interrupt, the mean over the prompts that were done, if any.

    Raises:
        ValueError: the model is quantised or streamed or has one layer, or no prompt has a valid
            position.
    """
    check_has_gradients(lab)
    rows = _long_enough(lab, prompts, skip_first, max_tokens)
    n, d_model = lab.config.n_layers - 1, lab.config.d_model
    total, done = torch.zeros(n, d_model, d_model), 0
    bar = tqdm(rows, unit=tr("prompt"), disable=not progress)
    with HeldInterrupts(at_once=False, keep=True) as held, closing(bar):
        try:
            for ids in bar:
                found = prompt_jacobians(lab, ids, skip_first, rows_at_once)
                with HeldInterrupts():  # A prompt counts, and is counted.
                    total += found
                    done += 1
            held.hold()
        except KeyboardInterrupt:
            held.hold()
            if not done:
                raise
        return JacobianLens(
            model_name=lab.name,
            fingerprint=fingerprint(lab.model),
            layers=tuple(range(n)),
            jacobians=total / done,
            n_prompts=done,
            note=CHOICE_NOTE if lab.config.is_moe else "",
        )


def _long_enough(
    lab: Lab, prompts: Sequence[Prompt], skip_first: int, max_tokens: int
) -> list[list[int]]:
    """Token ids of the prompts that have a valid position."""
    if lab.config.n_layers < 2:
        raise ValueError(f"{lab.name} has one layer, whose lens is the output: nothing to fit")
    needed = skip_first + 2
    every = [lab.token_ids(prompt)[:max_tokens] for prompt in as_prompts(prompts)]
    rows = [ids for ids in every if len(ids) >= needed]
    if not rows:
        longest = max(map(len, every), default=0)
        raise ValueError(
            f"no prompt has a valid position: the longest has {longest} tokens, and {needed} are "
            f"needed, as the first {skip_first} and the last are left out: give longer prompts, or "
            "a smaller skip_first"
        )
    if len(rows) < len(every):
        warnings.warn(
            f"{count(len(every) - len(rows), 'prompt')} of {len(every):,} were left out: they have "
            f"fewer than {needed} tokens",
            stacklevel=4,
        )
    return rows


@with_grad
def prompt_jacobians(
    lab: Lab, ids: Sequence[int], skip_first: int, rows_at_once: int
) -> Float[Tensor, "layer d_model d_model"]:
    """The Jacobians of one prompt: mean over its sources, sum over its targets.

    Args:
        lab: the model.
        ids: the prompt.
        skip_first: first valid position; the last valid one is the last but one.
        rows_at_once: rows in one backward pass.
    """
    d_model, valid = lab.config.d_model, slice(skip_first, len(ids) - 1)
    batch = min(rows_at_once, d_model)
    keep = _Streams(lab.config.n_layers)
    with lab.lock:
        # Each copy of the prompt in the batch has a row of the Jacobian of its own.
        token_ids = torch.tensor([list(ids)] * batch, device=lab.model.device)
        lab.model(token_ids, tap=keep, last_only=True)
        *sources, final = keep.kept
        found = torch.zeros(len(sources), d_model, d_model)
        for first in range(0, d_model, batch):
            n = min(batch, d_model - first)
            grads = torch.autograd.grad(
                final, sources, _one_hot(final, valid, first, n), retain_graph=first + n < d_model
            )
            for layer, each in enumerate(grads):
                found[layer, first : first + n] = each[:n, valid].float().mean(dim=1).cpu()
    return found


def _one_hot(
    final: Float[Tensor, "row pos d_model"], valid: slice, first: int, n: int
) -> Float[Tensor, "row pos d_model"]:
    """In copy i, 1 in dimension `first + i` of every valid position."""
    vectors = torch.zeros_like(final)
    for copy in range(n):
        vectors[copy, valid, first + copy] = 1
    return vectors


class _Streams:
    """A tap that keeps the stream after each block; the first one is the root of the graph."""

    def __init__(self, n_layers: int) -> None:
        self.kept: list[Tensor] = []
        self._names = [f"blocks.{layer}.hook_resid_post" for layer in range(n_layers)]

    def __call__(self, name: str, value: Tensor) -> Tensor:
        if name in self._names:
            value = value.detach().requires_grad_() if not self.kept else value.view_as(value)
            self.kept.append(value)
        return value

    def wants(self, name: str) -> bool:
        return name in self._names
