"""What an edit may return; everything else is refused by name and place."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from qwen3lab.errors import HookError
from qwen3lab.hooks.points import PATTERN_HOOKS
from qwen3lab.translation import later, tr

EXPERTS = "hook_expert_indices"
ROUTER = "hook_router_logits"
RULED_OUT = ("hook_attn_scores", ROUTER, "hook_unembed")
"""Hooks before a softmax: minus infinity rules a key, an expert or a token out, but not all."""

Place = Callable[[int, int], str]
"""Names the token at a row and a position of the pass."""


def checked_result(new: object, old: Tensor, name: str, n_experts: int) -> Tensor:
    """A copy of what an edit returned, in the dtype and on the device of the activation.

    Args:
        new: what it returned; None leaves the activation unchanged.
        old: the activation.
        name: of the hook.
        n_experts: of the model.

    Raises:
        HookError: it is no tensor, is of another shape, or holds an unknown expert.
    """
    if new is None:
        return old
    if not isinstance(new, Tensor) or new.is_meta or new.layout != torch.strided:
        kind = type(new).__name__
        if isinstance(new, Tensor):
            kind = tr("tensor without values") if new.is_meta else tr("sparse tensor")
        raise HookError(
            tr(
                "the edit of {name} returned a {kind}: expected a tensor or None",
                name=name,
                kind=kind,
            )
        )
    _check_kind(new, old, name)
    if name.endswith(EXPERTS):
        _check_experts(new, old, name, n_experts)
    elif new.shape != old.shape:
        raise HookError(
            tr(
                "the edit of {name} returned shape {shape}: expected {expected}, the "
                "shape of the activation",
                name=name,
                shape=tuple(new.shape),
                expected=tuple(old.shape),
            )
        )
    # Copied: the edit may keep the tensor, and change it after it was recorded.
    return new.to(dtype=old.dtype, device=old.device, copy=True)


def _check_kind(new: Tensor, old: Tensor, name: str) -> None:
    """Refuses values that a conversion would change: imaginary parts, fractions of an index."""
    whole = not (new.is_floating_point() or new.is_complex() or new.dtype == torch.bool)
    if new.is_complex() or not (old.is_floating_point() or whole):
        expected = tr("real numbers") if old.is_floating_point() else tr("integers")
        raise HookError(
            tr(
                "the edit of {name} returned {dtype}: expected {expected}",
                name=name,
                dtype=new.dtype,
                expected=expected,
            )
        )


def _check_experts(new: Tensor, old: Tensor, name: str, n_experts: int) -> None:
    """Tokens may have more or fewer experts, and -1 is an empty slot."""
    if new.shape[:-1] != old.shape[:-1] or new.shape[-1] < 1:
        raise HookError(
            tr(
                "the edit of {name} returned shape {shape}: expected {expected} and a "
                "last axis of at least one expert",
                name=name,
                shape=tuple(new.shape),
                expected=tuple(old.shape[:-1]),
            )
        )
    if bool(((new < -1) | (new >= n_experts)).any()):
        raise HookError(
            tr(
                "the edit of {name} returned an expert that does not exist: expected 0 "
                "to {last}, or -1 for an empty slot",
                name=name,
                last=n_experts - 1,
            )
        )


def check_edited(value: Tensor, before: Tensor, name: str, place: Place) -> None:
    """Check a hook's activation after all of its edits.

    Args:
        value: the edited activation.
        before: the activation that the edits received.
        name: of the hook.
        place: names a token, for the message.

    Raises:
        HookError: a token has no expert; the edits made a value NaN or infinite; or they ruled out
            everything that a softmax chooses from.
    """
    if name.endswith(EXPERTS):
        broken = (value == -1).all(dim=-1)
        what = later("leave {place} without an expert: leave at least one for each token")
    elif not value.is_floating_point() or _is_sound(value, name):
        return
    else:
        broken = ~_sound_rows(value, name) & _sound_rows(before, name)
        what = later("make {place} NaN or infinite in {kind}: return finite values")
        if name.endswith(RULED_OUT):
            emptied = broken & (value == -torch.inf).all(dim=-1)
            if bool(emptied.any()):
                broken = emptied
                what = later("rule out every {choice} of {place}: leave at least one")
    if bool(broken.any()):
        row, token = _row_and_token(broken, name)
        kind = str(value.dtype).removeprefix("torch.")
        what = tr(what, place=place(row, token), kind=kind, choice=_choice(name))
        raise HookError(tr("the edits of {name} {what}", name=name, what=what))


def _is_sound(value: Tensor, name: str) -> bool:
    """One pass over the values, and one number to look at: a sum keeps every NaN and infinity."""
    if name.endswith(RULED_OUT):
        return bool(value.amax(dim=-1).sum(dtype=torch.float32).isfinite())
    return bool(value.sum(dtype=torch.float32).isfinite())


def _sound_rows(value: Tensor, name: str) -> Tensor:
    """True for each vector along the last axis that has no NaN, and no infinity but ruled out."""
    if name.endswith(RULED_OUT):
        return value.amax(dim=-1).isfinite()
    return value.isfinite().all(dim=-1)


def _choice(name: str) -> str:
    if name.endswith(ROUTER):
        return "expert"
    return tr("key") if name.endswith(PATTERN_HOOKS) else tr("token of the vocabulary")


def _row_and_token(broken: Tensor, name: str) -> Sequence[int]:
    """The first broken row and position; scores and patterns count the query as position."""
    first = broken.nonzero()
    axis = 2 if name.endswith(PATTERN_HOOKS) else 1
    found = first[first[:, axis].argmin()]
    return int(found[0]), int(found[axis])
