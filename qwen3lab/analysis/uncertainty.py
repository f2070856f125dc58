"""Entropy and surprisal of each generated token."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qwen3lab.arguments import checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.generation.reply import Chat
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.translation import later, tr

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False, eq=False)
class Uncertainty(EqualByValue, Displayed):
    """Entropy and surprisal of the generated tokens.

    Attributes:
        tokens: text of each generated token.
        first: position of the first generated token in the whole conversation.
        entropy: of the next-token distribution before sampling filters, in nats.
        surprisal: minus the log-probability of the generated token, in nats.
        thinking: first and past-the-end position of the thinking; equal without thinking.
        answer: the same for the answer.
        forced: True if the token was inserted (early-stop sentence) and not sampled.
        stop: the stop reason, as in `Chat.stop`.
    """

    tokens: tuple[str, ...]
    first: int
    entropy: Float[Tensor, " token"]
    surprisal: Float[Tensor, " token"]
    thinking: tuple[int, int]
    answer: tuple[int, int]
    forced: Bool[Tensor, " token"]
    stop: str

    def to_pandas(self) -> "pandas.DataFrame":
        """A tidy table, a row per generated token: position, token, entropy, surprisal, forced."""
        import pandas

        return pandas.DataFrame(
            {
                "position": range(self.first, self.first + len(self.tokens)),
                "token": self.tokens,
                "entropy": self.entropy.numpy(),
                "surprisal": self.surprisal.numpy(),
                "forced": self.forced.numpy(),
            }
        )

    def _summary(self) -> Summary:
        drawn = ~self.forced
        means = {
            tr("mean {name}", name=tr(name)): tr(
                "{value:.3g} nats", value=float(values[drawn].mean())
            )
            for name, values in {
                later("entropy"): self.entropy,
                later("surprisal"): self.surprisal,
            }.items()
            if bool(drawn.any())
        }
        facts = {tr("tokens"): f"{len(self.tokens):,}", **means, tr("stop"): self.stop}
        return Summary(tr("Uncertainty of a reply"), facts, frame=self._most_uncertain)

    def _most_uncertain(self) -> "pandas.DataFrame":
        table = self.to_pandas().sort_values("entropy", ascending=False)
        return table[~table["forced"]].drop(columns="forced").head(6)


@checked
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
