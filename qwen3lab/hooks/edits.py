"""Edits: functions that replace activations during a forward pass."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import HookError
from qwen3lab.hooks.edit_values import check_edited, checked_result
from qwen3lab.hooks.points import PATTERN_HOOKS, resolve_hooks
from qwen3lab.translation import tr

Edit = Callable[[Tensor, str], Tensor | None]
"""Takes an activation and its hook name; returns a replacement, or None to leave it unchanged.

It receives each prompt's own positions, without padding: in a batch of prompts of unequal length
it is called once for each length.

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

    In a batch of prompts of unequal length, a plain function receives the prompts' own positions
    only: it is called once for each group of rows with equal padding, and the padding keeps its
    values. The edits of an `Intervention` receive all rows with their padding.

    Args:
        edits: the edits, by hook name or glob.
        config: of the model that runs.
        padding: number of padded positions before the first token of each row.

    Raises:
        HookError: on creation, if the model has no such hook or something is not an edit; during
            the forward pass, if a replacement has another shape, is NaN or infinite, or rules out
            every expert, key or token.
    """

    def __init__(
        self, edits: AnyEdits, config: Qwen3Config, *, padding: Sequence[int] = (0,)
    ) -> None:
        self.edits: dict[str, list[tuple[Edit, bool]]] = {}
        self.n_experts = config.n_experts
        self._rows: dict[int, list[int]] = {}
        for row, n in enumerate(padding):
            self._rows.setdefault(n, []).append(row)
        self._n_past, self._n_new = 0, 0
        for group in _combined(listed_edits(edits)):
            plain = isinstance(group, Mapping)
            named = group if plain else group.edits(config, padding)
            for pattern, edit in named.items():
                check_edit(edit, pattern)
                for name in resolve_hooks(pattern, config):
                    self.edits.setdefault(name, []).append((edit, plain))

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Apply the edits of this hook, in the order of the arguments."""
        if name == "hook_embed":  # A forward pass begins.
            self._n_past, self._n_new = self._n_past + self._n_new, value.shape[1]
        before = value
        for edit, plain in self.edits.get(name, ()):
            groups = list(self._own_positions(name, value)) if plain else []
            if groups:
                value = self._applied_to(groups, edit, value, name)
            else:
                # Cloned, because other hooks may share the memory and the edit may write in place.
                value = checked_result(edit(value.clone(), name), value, name, self.n_experts)
        if value is not before:
            n_positions = value.shape[2 if name.endswith(PATTERN_HOOKS) else 1]
            check_edited(value, before, name, partial(self._place, n_positions=n_positions))
        for edit, plain in self.edits.get(name, ()):
            if isinstance(edit, Settling):
                groups = list(self._own_positions(name, value)) if plain else []
                for part in [value[group] for group in groups] or [value]:
                    edit.settled(part, name)
        return value

    def wants(self, name: str) -> bool:
        """True if the name is edited."""
        return name in self.edits

    def _own_positions(self, name: str, value: Tensor) -> Iterator[tuple[Any, ...]]:
        """An index of each group of rows with equal padding; none if there is no padding."""
        is_pattern = name.endswith(PATTERN_HOOKS)
        # Counted from the end: the last hooks may have the last position only.
        n_before = self._n_past + self._n_new - value.shape[2 if is_pattern else 1]
        if all(n <= (0 if is_pattern else n_before) for n in self._rows):
            return
        for n, rows in self._rows.items():
            own = slice(max(n - n_before, 0), None)
            index = torch.tensor(rows, device=value.device)
            yield (index, slice(None), own, slice(n, None)) if is_pattern else (index, own)

    def _applied_to(
        self, groups: Sequence[tuple[Any, ...]], edit: Edit, value: Tensor, name: str
    ) -> Tensor:
        """The activation, with an edit applied to each group; the padding keeps its values."""
        parts = [value[group] for group in groups]
        news = [
            checked_result(edit(part.clone(), name), part, name, self.n_experts) for part in parts
        ]
        widths = {new.shape[-1] for new in news}
        is_experts = name.endswith("hook_expert_indices")
        if is_experts and len(widths) > 1:
            raise HookError(
                tr(
                    "the edit of {name} returned {fewest} experts for one prompt and "
                    "{most} for another: expected as many for all prompts of a batch; "
                    "fill with -1",
                    name=name,
                    fewest=min(widths),
                    most=max(widths),
                )
            )
        if is_experts:  # Padding tokens keep their first experts.
            width = widths.pop()
            value = F.pad(value[..., :width], (0, max(width - value.shape[-1], 0)), value=-1)
        result = value.clone()
        for group, new in zip(groups, news, strict=True):
            result[group] = new
        return result

    def _place(self, row: int, token: int, n_positions: int) -> str:
        """A token by its position in its text, and its prompt if there are several."""
        padding = {row: n for n, rows in self._rows.items() for row in rows}
        position = self._n_past + self._n_new - n_positions + token - padding.get(row, 0)
        return tr("token {position}", position=position) + (
            tr(" of prompt {row}", row=row) if len(padding) > 1 else ""
        )


def listed_edits(edits: object) -> list[Any]:
    """One or several edits as a list.

    Raises:
        HookError: something else was given.
    """
    found = [edits] if isinstance(edits, Mapping | Intervention) else edits
    if not isinstance(found, Sequence) or isinstance(found, str | bytes):
        raise HookError(_not_edits(edits))
    for each in found:
        if not isinstance(each, Mapping | Intervention):
            raise HookError(_not_edits(each))
    return list(found)


def _not_edits(found: object) -> str:
    return tr(
        "edits has a value of type {kind}: expected a mapping of hook names "
        "to functions, an intervention, or a list of these",
        kind=type(found).__name__,
    )


def check_edit(edit: object, name: str) -> None:
    """Raises `HookError` for an edit that cannot be called with an activation and a name."""
    if not callable(edit):
        raise HookError(
            tr(
                "the edit of {name} is no function of two arguments (an activation and its "
                "hook name): it is of type {kind}",
                name=name,
                kind=type(edit).__name__,
            )
        )
    try:
        inspect.signature(edit).bind(None, name)
    except TypeError as error:
        raise HookError(
            tr(
                "the edit of {name} is no function of two arguments (an activation and its "
                "hook name): {error}",
                name=name,
                error=error,
            )
        ) from None
    except ValueError:  # Some functions that are written in C have no signature.
        return


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
