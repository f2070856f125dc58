"""The numbers that the text is shaded by, as the state chooses them."""

from qwen3lab.recording.recording import Recording
from qwen3lab.translation import later, tr
from qwen3lab.widgets.explorers.text_compute import Shades, of_attention, of_expert, of_reply
from qwen3lab.widgets.workbench.state import (
    ATTENDED,
    ATTENDS,
    ENTROPY,
    EXPERT_WEIGHT,
    SURPRISAL,
    WorkbenchState,
)

PICK_A_TOKEN = later("click a token to see its attention weights")
PICK_AN_EXPERT = later("pick an expert to see its tokens")


def shades_of(recording: Recording, state: WorkbenchState, token: int) -> Shades | str:
    """The numbers of the chosen quantity, or what has to be picked first.

    Args:
        recording: of the text.
        state: chooses the quantity, the layer, the head and the expert.
        token: that the attention is from or to.
    """
    if state.quantity in (SURPRISAL, ENTROPY):
        return of_reply(recording, state.current, state.quantity.split()[0])
    if state.quantity == EXPERT_WEIGHT:
        if state.expert < 0:
            return tr(PICK_AN_EXPERT)
        return of_expert(recording, state.routing_layer, state.expert)
    if token < 0:
        return tr(PICK_A_TOKEN)
    is_query = state.quantity == ATTENDS
    return of_attention(recording, state.layer, state.head, token, is_query=is_query)


def is_of_token(state: WorkbenchState) -> bool:
    """True if the quantity belongs to one token: its attention weights."""
    return state.quantity in (ATTENDS, ATTENDED)


def what_is_shaded(state: WorkbenchState) -> tuple[object, ...]:
    """What the numbers depend on, but for the recording and the picked token."""
    if is_of_token(state):
        return (state.quantity, state.layer, state.head)
    if state.quantity == EXPERT_WEIGHT:
        return (state.quantity, state.routing_layer, state.expert)
    return (state.quantity,)
