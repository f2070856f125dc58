"""Data of the workbench's text view: one number for each token. Draws nothing."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.map_windows import looked_at_by, looks_at
from qwen3lab.analysis.routing import layer_weights
from qwen3lab.figures.scales import ColourScale, ScaleChoice
from qwen3lab.generation.reply import Chat
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import later, tr

BLOCK = 64
"""Positions whose logits are in memory at a time."""


@dataclass(frozen=True)
class Shades:
    """What shades a text.

    Attributes:
        values: one number for each token; NaN for a token without one.
        title: what they are, with their unit.
        high: value of the darkest shade; that of the lightest is 0.
        token: the token that they belong to; -1 for none.
        nothing: what a token without a value is.
    """

    values: Float[Tensor, " token"]
    title: str
    high: float
    token: int = -1
    nothing: str = ""

    def scale(self, colours: str) -> ColourScale:
        """How the values become shades, on the colour scale of this name."""
        return ScaleChoice.named(colours).scale(self.values[None], high=self.high)


def of_reply(recording: Recording, chat: Chat | None, what: str) -> Shades:
    """Surprisal or entropy of each token.

    Args:
        recording: of the conversation.
        chat: the reply; its own values are taken, those of the prompt are not known. Without a
            reply, all values are computed from the logits.
        what: "surprisal" or "entropy"; both in nats.

    Raises:
        RecordingError: there is no reply, and the logits were not recorded.
    """
    values = torch.full((len(recording),), torch.nan)
    if chat is None:
        values[1:] = _from_logits(recording, what)
        nothing = tr("first token: nothing predicts it")
    else:
        first = chat.spans["prompt"][1]
        known = -torch.as_tensor(chat.logprobs) if what == "surprisal" else chat.entropy
        n = min(len(known), len(recording) - first)
        values[first : first + n] = torch.as_tensor(known[:n], dtype=torch.float32)
        nothing = tr("prompt: not generated")
    return Shades(values, tr("{what} (nats)", what=tr(what)), _top(values), nothing=nothing)


def of_attention(
    recording: Recording, layer: int, head: int, token: int, *, is_query: bool
) -> Shades:
    """Attention weights of a token: those that it gives as a query, or gets as a key."""
    if is_query:
        values = looks_at(recording, layer, head, token)
        title = later("attention from token {token} (layer {layer}, head {head})")
    else:
        values = looked_at_by(recording, layer, head, token)
        title = later("attention to token {token} (layer {layer}, head {head})")
    return Shades(values, tr(title, token=token, layer=layer, head=head), 1.0, token)


def of_expert(recording: Recording, layer: int, expert: int) -> Shades:
    """Routing weight of one expert for each token.

    Raises:
        ValueError: the layer has no experts.
    """
    values = layer_weights(recording, layer)[:, expert]
    values = values.masked_fill(values == 0, torch.nan)
    title = tr("weight of expert {expert} of layer {layer}", expert=expert, layer=layer)
    return Shades(values, title, _top(values), nothing=tr("not routed to it"))


def _top(values: Float[Tensor, " token"]) -> float:
    known = values[~values.isnan()]
    return max(float(known.max()), 1e-6) if len(known) else 1.0


def _from_logits(recording: Recording, what: str) -> Float[Tensor, " next_token"]:
    """Surprisal of each token but the first, or entropy of the prediction before it."""
    if what == "surprisal":
        return -recording.logprobs()
    logits, found = recording.logits, []
    for start in range(0, len(recording) - 1, BLOCK):
        log = logits[start : min(start + BLOCK, len(recording) - 1)].float().log_softmax(dim=-1)
        found.append(-(log.exp() * log).sum(dim=-1))
    return torch.cat(found) if found else torch.zeros(0)
