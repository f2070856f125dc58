"""How sure a model was of each token that it wrote."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qwen3lab.generation.reply import Chat


@dataclass(frozen=True)
class Uncertainty:
    """Entropy and surprisal along the tokens that a model generated.

    Attributes:
        tokens: text of each generated token.
        first: position of the first of them in the whole conversation.
        entropy: of the distribution each token was drawn from, in nats.
        surprisal: minus the log-probability of the token that came, in nats.
        thinking: first and past-the-end position of the thinking; equal where there is none.
        answer: the same of the answer.
        forced: True where the token was put there (an early-stop sentence) and not drawn.
        stop: why the generation stopped, as in `Chat.stop`.
    """

    tokens: tuple[str, ...]
    first: int
    entropy: Float[Tensor, " token"]
    surprisal: Float[Tensor, " token"]
    thinking: tuple[int, int]
    answer: tuple[int, int]
    forced: Bool[Tensor, " token"]
    stop: str


def uncertainty(chat: Chat) -> Uncertainty:
    """Entropy and surprisal of every token generated in a chat."""
    return Uncertainty(
        tokens=tuple(chat.tokens),
        first=chat.spans["prompt"][1],
        entropy=torch.as_tensor(chat.entropy, dtype=torch.float32),
        surprisal=-torch.as_tensor(chat.logprobs, dtype=torch.float32),
        thinking=chat.spans["thinking"],
        answer=chat.spans["answer"],
        forced=torch.as_tensor(chat.forced, dtype=torch.bool),
        stop=chat.stop,
    )
