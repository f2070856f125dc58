"""Edits: functions that replace activations during a forward pass."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import HookError
from qwen3lab.hooks.points import resolve_hooks

Edit = Callable[[Tensor, str], Tensor | None]
"""Given an activation and its hook name, returns a replacement, or None to leave it.

One that has a method `settled` is told what became of the activation once all others have acted.
"""


@runtime_checkable
class Settling(Protocol):
    """An edit that is told what became of the activation."""

    def settled(self, value: Tensor, name: str) -> None:
        """See the activation once all edits have acted."""
        ...


@runtime_checkable
class Intervention(Protocol):
    """Edits that belong together, and that may know where in a text they are."""

    def edits(self, config: Qwen3Config, padding: Sequence[int]) -> Mapping[str, Edit]:
        """Edits for one run, by hook name or glob.

        Args:
            config: of the model that runs.
            padding: how many positions stand before each row's own first token.

        Raises:
            HookError: the intervention does not fit the model.
        """
        ...


AnyEdits = Mapping[str, Edit] | Intervention | Sequence[Mapping[str, Edit] | Intervention]
"""Hook names or globs to edits, an intervention, or several of these, to act in their order."""


class Edits:
    """A tap that replaces activations: hook names or globs to edit functions.

    Args:
        edits: what to replace.
        config: of the model that runs.
        padding: how many positions stand before each row's own first token.

    Raises:
        HookError: on creation for a name that no model of this shape has; during the forward
            pass for a replacement of another shape.
    """

    def __init__(
        self, edits: AnyEdits, config: Qwen3Config, *, padding: Sequence[int] = (0,)
    ) -> None:
        self.edits: dict[str, list[Edit]] = {}
        self.n_experts = config.n_experts
        for given in _joined([edits] if isinstance(edits, Mapping | Intervention) else edits):
            named = given if isinstance(given, Mapping) else given.edits(config, padding)
            for pattern, edit in named.items():
                for name in resolve_hooks(pattern, config):
                    self.edits.setdefault(name, []).append(edit)

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Apply the edits of this name in the order in which they were given."""
        for edit in self.edits.get(name, ()):
            # A copy: the same memory may serve other hooks, and an edit may write in place.
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
                f"expected {tuple(old.shape)}, the shape it was given"
            )
        return new


def _joined(
    edits: Iterable[Mapping[str, Edit] | Intervention],
) -> list[Mapping[str, Edit] | Intervention]:
    """The same, where neighbours of a kind that can be added act as their sum: as one."""
    found: list[Any] = []
    for given in edits:
        if found and type(given) is type(found[-1]) and hasattr(given, "__add__"):
            given = found.pop() + given
        found.append(given)
    return found


def _checked_experts(new: Tensor, old: Tensor, name: str, n_experts: int) -> Tensor:
    """Tokens may be given more experts or fewer; -1 leaves a slot empty."""
    if new.shape[:-1] != old.shape[:-1] or new.shape[-1] < 1:
        raise HookError(
            f"the edit of {name} returned shape {tuple(new.shape)}: expected "
            f"{tuple(old.shape[:-1])}, the shape it was given, and at least one expert each"
        )
    if bool(((new < -1) | (new >= n_experts)).any()):
        raise HookError(
            f"the edit of {name} returned an expert that does not exist: expected 0 to "
            f"{n_experts - 1}, or -1 for a slot that stays empty"
        )
    return new
