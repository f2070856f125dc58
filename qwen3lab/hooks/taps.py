"""The tap: how activations leave a forward pass, and how edits enter it.

A forward pass calls its tap with every named activation, `x = tap("blocks.3.hook_resid_post", x)`,
and continues with the returned tensor. The tap is an argument and nothing is registered on the
model: no hook can stay behind after a run, and two runs cannot disturb each other.

`hooks.points.HOOK_POINTS` is the one table of names.
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
    """A tap that only reads, and takes the activations of several decoding steps at once.

    A decoder that captures or compiles its steps asks for this: an edit would have to run as
    Python inside of the captured step.

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
        """Return the activation as it is."""
        return value

    def wants(self, name: str) -> bool:
        """Nothing is wanted."""
        return False


class Keep:
    """A tap that keeps the activations it is asked for, in `kept`."""

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
    """Several taps as one: each is handed what the one before returned."""

    def __init__(self, *taps: Tap) -> None:
        self.taps = taps

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Hand the activation through all taps."""
        for tap in self.taps:
            value = tap(name, value)
        return value

    def wants(self, name: str) -> bool:
        """True if any of the taps wants the name."""
        return any(tap.wants(name) for tap in self.taps)


NO_TAP: Tap = NoTap()
