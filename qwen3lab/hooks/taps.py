"""The tap: how activations leave a forward pass, and how edits enter it.

A forward pass hands every named activation to its tap, `x = tap("blocks.3.hook_resid_post", x)`,
and goes on with what comes back. The tap is an argument, so nothing is ever registered on the
model: no hook can be left behind, and two runs cannot disturb each other.

`hooks.points.HOOK_POINTS` is the one table of names.
"""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Tap(Protocol):
    """What a forward pass hands its named activations to."""

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Take the activation, and return it or another that shall stand in its place.

        It is not to be changed itself: its memory may serve other hooks.
        """
        ...

    def wants(self, name: str) -> bool:
        """True if the tap reads or edits `name`; costly activations are made only then."""
        ...


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


NOTHING: Tap = NoTap()
