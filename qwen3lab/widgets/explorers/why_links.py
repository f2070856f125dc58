"""From a picked head or expert to the explorer of heads or experts, with the same reply."""

from qwen3lab.generation.reply import Chat
from qwen3lab.lab import Lab
from qwen3lab.widgets.explorers.attention_explorer import AttentionExplorer
from qwen3lab.widgets.explorers.explorer import Explorer
from qwen3lab.widgets.explorers.routing_explorer import RoutingExplorer
from qwen3lab.widgets.explorers.why_state import WhyState

SETTINGS = ("budget", "greedy", "temperature", "seed")
"""Settings of a run that the opened explorer takes over."""


def explorer_of(lab: Lab, chat: Chat, state: WhyState, max_new_tokens: int) -> Explorer:
    """An explorer at the picked head or expert, and at the token whose logits are explained.

    Args:
        lab: the model.
        chat: the reply that it shows; no question is asked.
        state: has the part, the token and the settings.
        max_new_tokens: maximum length of its further replies.

    Raises:
        ValueError: neither a head nor an expert is picked.
    """
    kind, layer, number = state.part or ("", -1, -1)
    if kind not in ("head", "expert"):
        raise ValueError("neither a head nor an expert is picked: click one in a plot first")
    found: Explorer
    if kind == "head":
        found = AttentionExplorer(lab, chat=chat, max_new_tokens=max_new_tokens)
        found.state.layer, found.state.head = layer, number
    else:
        routing = RoutingExplorer(lab, chat=chat, max_new_tokens=max_new_tokens)
        routing.state.routing_layer, routing.state.expert = layer, number
        found = routing
    for name in SETTINGS:
        setattr(found.state, name, getattr(state, name))
    found.state.token = max(0, state.token - 1)
    return found
