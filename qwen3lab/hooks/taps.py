"""Taps, which read or replace the named activations of a forward pass.

A forward pass calls its tap with every named activation, `x = tap("blocks.3.hook_resid_post", x)`,
and continues with the returned tensor. The tap is an argument and nothing is registered on the
model: no hook remains after a run, and two runs do not affect each other.

All hook names are in the table `hooks.points.HOOK_POINTS`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Shaped
from torch import Tensor


@runtime_checkable
class Tap(Protocol):
    """Receives the named activations of a forward pass."""

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Return the activation, or a replacement for it.

        The tensor must not be changed in place: other hooks may share its memory.
        """
        ...

    def wants(self, name: str) -> bool:
        """True if the tap reads or edits `name`; costly activations are computed only then."""
        ...


@runtime_checkable
class Collector(Protocol):
    """A tap that only reads, and can take the activations of several decoding steps at once.

    Decoders capture or compile steps only for such taps: an edit is Python code, which cannot run
    inside of a captured step.

    Attributes:
        names: hooks that are read.
    """

    @property
    def names(self) -> Sequence[str]: ...

    def __call__(self, name: str, value: Tensor) -> Tensor: ...

    def wants(self, name: str) -> bool: ...

    def keep(self, names: Sequence[str], values: Shaped[Tensor, "hook batch pos *any"]) -> None:
        """Take activations of several hooks, stacked into one tensor."""
        ...

    def expect(self, deliver: Callable[[], None]) -> None:
        """Register a function that delivers pending activations; called once before a read."""
        ...


def collected_names(tap: Tap) -> tuple[str, ...] | None:
    """Hooks that a tap collects, or none for `NO_TAP`; None for a tap that may edit."""
    if isinstance(tap, NoTap):
        return ()
    return tuple(tap.names) if isinstance(tap, Collector) else None


class NoTap:
    """The tap that does nothing."""

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Return the activation unchanged."""
        return value

    def wants(self, name: str) -> bool:
        """Always False."""
        return False


class Keep:
    """A tap that keeps the activations of some hooks, by name in `kept`."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        self.kept: dict[str, Tensor] = {}

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Keep a wanted activation, detached, and return it unchanged."""
        if name in self.names:
            self.kept[name] = value.detach()
        return value

    def wants(self, name: str) -> bool:
        """True if the name is kept."""
        return name in self.names


class Chain:
    """Several taps as one: each receives the tensor that the previous one returned."""

    def __init__(self, *taps: Tap) -> None:
        self.taps = taps

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Pass the activation through all taps."""
        for tap in self.taps:
            value = tap(name, value)
        return value

    def wants(self, name: str) -> bool:
        """True if any of the taps wants the name."""
        return any(tap.wants(name) for tap in self.taps)


NO_TAP: Tap = NoTap()
