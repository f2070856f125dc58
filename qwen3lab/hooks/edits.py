"""Edits: functions that replace activations during a forward pass."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import HookError
from qwen3lab.hooks.points import resolve_hooks

Edit = Callable[[Tensor, str], Tensor | None]
"""Takes an activation and its hook name; returns a replacement, or None to leave it unchanged.

An edit with a method `settled` also receives the final activation, after all edits of the hook.
"""


@runtime_checkable
class Settling(Protocol):
    """An edit that also receives the final activation of its hook."""

    def settled(self, value: Tensor, name: str) -> None:
        """Called with the final activation, after all edits of the hook."""
        ...


@runtime_checkable
class Intervention(Protocol):
    """A group of edits, which may depend on the position of a token in its text."""

    def edits(self, config: Qwen3Config, padding: Sequence[int]) -> Mapping[str, Edit]:
        """Edits for one run, by hook name or glob.

        Args:
            config: of the model that runs.
            padding: number of padded positions before the first token of each row.

        Raises:
            HookError: the intervention cannot be applied to this model.
        """
        ...


AnyEdits = Mapping[str, Edit] | Intervention | Sequence[Mapping[str, Edit] | Intervention]
"""A mapping of hook names or globs to edits, an intervention, or several of these, in order."""


class Edits:
    """A tap that replaces activations with the results of edit functions.

    Args:
        edits: the edits, by hook name or glob.
        config: of the model that runs.
        padding: number of padded positions before the first token of each row.

    Raises:
        HookError: on creation, if the model has no such hook; during the forward pass, if a
            replacement has another shape.
    """

    def __init__(
        self, edits: AnyEdits, config: Qwen3Config, *, padding: Sequence[int] = (0,)
    ) -> None:
        self.edits: dict[str, list[Edit]] = {}
        self.n_experts = config.n_experts
        for group in _combined([edits] if isinstance(edits, Mapping | Intervention) else edits):
            named = group if isinstance(group, Mapping) else group.edits(config, padding)
            for pattern, edit in named.items():
                for name in resolve_hooks(pattern, config):
                    self.edits.setdefault(name, []).append(edit)

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Apply the edits of this hook, in the order of the arguments."""
        for edit in self.edits.get(name, ()):
            # Cloned, because other hooks may share the memory and the edit may write in place.
            value = self._checked(edit(value.clone(), name), value, name)
        for edit in self.edits.get(name, ()):
            if isinstance(edit, Settling):
                edit.settled(value, name)
        return value

    def wants(self, name: str) -> bool:
        """True if the name is edited."""
        return name in self.edits

    def _checked(self, new: object, old: Tensor, name: str) -> Tensor:
        if new is None:
            return old
        if not isinstance(new, Tensor):
            raise HookError(
                f"the edit of {name} returned a {type(new).__name__}: expected a tensor or None"
            )
        new = new.to(dtype=old.dtype, device=old.device)
        if name.endswith("hook_expert_indices"):
            return _checked_experts(new, old, name, self.n_experts)
        if new.shape != old.shape:
            raise HookError(
                f"the edit of {name} returned shape {tuple(new.shape)}: "
                f"expected {tuple(old.shape)}, the shape of the activation"
            )
        return new


def _combined(
    edits: Iterable[Mapping[str, Edit] | Intervention],
) -> list[Mapping[str, Edit] | Intervention]:
    """Adds neighbours of the same type into one intervention, if the type has `__add__`."""
    combined: list[Any] = []
    for group in edits:
        if combined and type(group) is type(combined[-1]) and hasattr(group, "__add__"):
            group = combined.pop() + group
        combined.append(group)
    return combined


def _checked_experts(new: Tensor, old: Tensor, name: str, n_experts: int) -> Tensor:
    """The edited expert indices; tokens may have more or fewer experts, and -1 is an empty slot."""
    if new.shape[:-1] != old.shape[:-1] or new.shape[-1] < 1:
        raise HookError(
            f"the edit of {name} returned shape {tuple(new.shape)}: expected "
            f"{tuple(old.shape[:-1])} and a last axis of at least one expert"
        )
    if bool(((new < -1) | (new >= n_experts)).any()):
        raise HookError(
            f"the edit of {name} returned an expert that does not exist: expected 0 to "
            f"{n_experts - 1}, or -1 for an empty slot"
        )
    return new
