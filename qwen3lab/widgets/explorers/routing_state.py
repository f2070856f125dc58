"""What a routing explorer is showing."""

from collections.abc import Sequence

import traitlets

from qwen3lab.generation.reply import Chat
from qwen3lab.interventions import rerouting
from qwen3lab.interventions.rerouting import Rerouting
from qwen3lab.recording.recording import Recording
from qwen3lab.widgets.explorers.state import ExplorerState

Off = tuple[tuple[int, int], ...]
"""Experts that are switched off: layer and expert of each."""

COMPARE = ("nothing", "the other mode", "another question")


class RoutingState(ExplorerState):
    """An explorer's state, with the expert that is looked at, and what the run is compared with.

    Attributes:
        expert: picked in `routing_layer`; -1 for none.
        off: experts to be off in the next run.
        asked_off: experts that were off in the run that is shown.
        whole: the same question with every expert on, where some were off; else None.
        compare: what to run beside it, one of `COMPARE`.
        other_question: asked as well, where another question is compared.
        other: the run beside it, or None.
        other_name: what that was.
    """

    expert = traitlets.Int(-1)
    off = traitlets.Tuple()
    asked_off = traitlets.Tuple()
    whole = traitlets.Any(None)
    compare = traitlets.Enum(COMPARE, COMPARE[0])
    other_question = traitlets.Unicode()
    other = traitlets.Any(None)
    other_name = traitlets.Unicode()

    @property
    def seen(self) -> Recording | None:
        """The recording of the run that is shown, once it has ended."""
        return self.current.recording if self.current is not None else None

    def switch(self, layer: int, expert: int) -> None:
        """Put an expert off that is on, and on that is off; the next run shows what changes."""
        cell = (layer, expert)
        self.off = (
            tuple(other for other in self.off if other != cell)
            if cell in self.off
            else (*self.off, cell)
        )


def rerouted(off: Sequence[tuple[int, int]]) -> Rerouting | None:
    """The intervention that switches these experts off; None for none of them."""
    if not off:
        return None
    layers = sorted({layer for layer, _ in off})
    first, *others = (
        rerouting.off([expert for at, expert in off if at == layer], layers=layer)
        for layer in layers
    )
    return sum(others, start=first)


def answers(state: RoutingState) -> list[tuple[str, Chat]]:
    """The replies to lay side by side: with every expert, and with some of them off."""
    chat = state.current
    if chat is None:
        return []
    shown = [("every expert on", state.whole)] if state.whole is not None else []
    named = ", ".join(f"expert {expert} of layer {layer}" for layer, expert in state.asked_off)
    shown.append((f"without {named}" if named else "every expert on", chat))
    if state.other is not None:
        shown.append((state.other_name, state.other))
    return shown
