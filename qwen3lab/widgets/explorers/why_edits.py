"""Changes of a reply that the why explorer asks for: a part away, another stream, a direction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab import steering
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.generation.reply import Chat
from qwen3lab.hooks.edits import Edit
from qwen3lab.interventions import rerouting
from qwen3lab.lab import Lab
from qwen3lab.widgets.explorers.why_state import OTHER_QUESTION

STREAM, MLP_OUT = "blocks.{}.hook_resid_post", "blocks.{}.hook_mlp_out"


@dataclass(frozen=True, eq=False)
class AtToken:
    """Puts a vector in place of the activation of one token, in the prompt or in the reply.

    Attributes:
        hook: of the activation.
        position: of the token in the conversation.
        value: the vector, or one number for all of its entries.
    """

    hook: str
    position: int
    value: Float[Tensor, "*d_model"]

    def edits(self, config: Qwen3Config, padding: Sequence[int]) -> Mapping[str, Edit]:
        """The edits for one run; see `qwen3lab.hooks.edits.Intervention`."""
        run = _Run(self, padding)
        return {"hook_embed": run.count, self.hook: run.replace}


class _Run:
    """Counts the tokens of a run, pass by pass."""

    def __init__(self, change: AtToken, padding: Sequence[int]) -> None:
        self.change, self.padding = change, torch.tensor(padding)
        self.first, self.n_past = 0, 0

    def count(self, embed: Tensor, name: str) -> None:
        self.first, self.n_past = self.n_past, self.n_past + embed.shape[1]

    def replace(self, value: Tensor, name: str) -> Tensor:
        columns = torch.arange(self.first, self.first + value.shape[1])
        here = (columns - self.padding[:, None]).to(value.device) == self.change.position
        return torch.where(here[..., None], self.change.value.to(value), value)


def removal(part: tuple[str, int, int]) -> Any:
    """The edits that take a part away, as `WhyState.part` names it.

    Raises:
        ValueError: the stream of a layer cannot be taken away.
    """
    kind, layer, number = part
    if kind == "expert":
        return rerouting.off(number, layers=layer)
    if kind == "mlp" and number >= 0:
        return AtToken(MLP_OUT.format(layer), number, torch.zeros(()))
    if kind == "mlp":
        return {MLP_OUT.format(layer): lambda value, name: torch.zeros_like(value)}
    if kind == "head":
        return {f"blocks.{layer}.attn.hook_z": _without_head(number)}
    raise ValueError(
        "a whole layer is not taken away: pick a head, an expert or an MLP in the map of effects"
    )


def patched(lab: Lab, chat: Chat, part: tuple[str, int, int], question: str) -> AtToken:
    """The edit that puts the stream of another question in place, after one layer at one token.

    Raises:
        ValueError: the part is no layer and token, or the question has another number of tokens.
    """
    kind, layer, position = part
    if kind != "layer" or position < 0:
        raise ValueError(
            f"there is no layer and token to patch: run again “{OTHER_QUESTION}”, and click a cell"
        )
    hook = STREAM.format(layer)
    other = lab.record(other_ids(lab, chat, position + 1, question), capture=hook)
    return AtToken(hook, position, other.raw(hook)[position])


def other_ids(lab: Lab, chat: Chat, end: int, question: str) -> list[int]:
    """Another question's prompt, with the reply of this run after it, up to a position.

    Raises:
        ValueError: the question is empty, or has another number of tokens.
    """
    if not question.strip():
        raise ValueError("the other question is empty: type one with as many tokens")
    n_prompt = len(chat.prompt_ids)
    messages = [{"role": "user", "content": question}]
    prompt = lab.token_ids(messages, thinking=chat.thinking_asked, continue_reply=True)
    if len(prompt) != n_prompt:
        raise ValueError(
            f"the other question has {len(prompt)} tokens with its template, and this one "
            f"{n_prompt}: change single words, so that both have the same number"
        )
    return [*prompt, *chat.token_ids][:end]


def steered(
    lab: Lab, chat: Chat, tokens: tuple[int, int], *, layer: int, position: int, strength: float
) -> Any:
    """Edits that push the stream at a layer from one token towards another, from a position on.

    Args:
        lab: the model.
        chat: the reply, recorded with the stream.
        tokens: the written token and the other one.
        layer: whose stream is changed.
        position: of the written token; the stream of the token before it is changed first.
        strength: in multiples of the mean norm of the stream at the layer in this run; towards the
            written token, if negative.
    """
    written, other = tokens
    vector = steering.from_token(lab, other, other=written, layer=layer)
    assert chat.recording is not None
    stream = chat.recording.raw(STREAM.format(layer)).float()
    norm = float(stream.norm(dim=-1).mean())
    unit = norm / max(float(vector[layer].norm()), 1e-9)
    return (strength * unit) * vector.at(positions=slice(position - 1, None))


def _without_head(head: int) -> Any:
    def edit(z: Tensor, name: str) -> Tensor:
        z[..., head, :] = 0
        return z

    return edit
