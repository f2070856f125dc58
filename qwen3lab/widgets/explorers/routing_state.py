"""State of the routing explorer."""

from collections.abc import Sequence

import traitlets

from qwen3lab.generation.reply import Chat
from qwen3lab.interventions import rerouting
from qwen3lab.interventions.rerouting import Rerouting
from qwen3lab.widgets.explorers.state import ExplorerState, Result

ALL_ON = "all experts on"
"""Name of a run without disabled experts."""


class RoutingState(ExplorerState):
    """State of an explorer, with the picked expert, and with disabled experts.

    Attributes:
        expert: the picked expert of `routing_layer`; -1 for none.
        off: layer and expert of each expert to disable in the next run.
        asked_off: the experts that are disabled in the latest run.
        baseline: the reply to the same question with all experts on, if some were off; else None.
    """

    expert = traitlets.Int(-1)
    off = traitlets.Tuple()
    asked_off = traitlets.Tuple()
    baseline = Result(None)

    def switch(self, layer: int, expert: int) -> None:
        """Disable an expert, or enable it again; the next run uses the setting."""
        cell = (layer, expert)
        self.off = (
            tuple(other for other in self.off if other != cell)
            if cell in self.off
            else (*self.off, cell)
        )


def switched_off(off: Sequence[tuple[int, int]]) -> Rerouting | None:
    """The intervention that disables these experts; None without any."""
    if not off:
        return None
    layers = sorted({layer for layer, _ in off})
    first, *others = (
        rerouting.off([expert for other, expert in off if other == layer], layers=layer)
        for layer in layers
    )
    return sum(others, start=first)


def answers(state: RoutingState) -> list[tuple[str, Chat]]:
    """The replies to show side by side, each with its name."""
    chat = state.current
    if chat is None:
        return []
    replies = [(ALL_ON, state.baseline)] if state.baseline is not None else []
    disabled = ", ".join(f"expert {expert} of layer {layer}" for layer, expert in state.asked_off)
    replies.append((f"without {disabled}" if disabled else ALL_ON, chat))
    return replies
