"""Where in a text a steering vector is added: the tokens that a place selects in each pass."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.arguments import checked
from qwen3lab.errors import HookError
from qwen3lab.lab import Lab
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.translation import tr


@dataclass(frozen=True)
class Pass:
    """The tokens of one forward pass.

    Attributes:
        positions: of the tokens in their text; negative for padding.
        is_reply: True for a pass that runs what the model wrote, after that of the prompts.
        thinks: True for tokens inside of a thinking block; all False unless the place needs them.
    """

    positions: Int[Tensor, "batch pos"]
    is_reply: bool
    thinks: Bool[Tensor, "batch pos"]


@dataclass(frozen=True)
class Everywhere:
    """All tokens."""

    def thinks(
        self, embed: Float[Tensor, "batch pos d_model"], before: Bool[Tensor, " batch"]
    ) -> Bool[Tensor, "batch pos"]:
        """True for tokens inside of a thinking block; all False for a place that ignores these.

        Args:
            embed: the tokens' embeddings.
            before: True where the text before them ends inside of a block.
        """
        return torch.zeros(embed.shape[:2], dtype=torch.bool, device=embed.device)

    def where(self, run: Pass) -> Bool[Tensor, "batch pos"]:
        """True at the tokens of a pass that the vector is added to."""
        return run.positions >= 0

    def __str__(self) -> str:
        return tr("all tokens")


@dataclass(frozen=True)
class Generated(Everywhere):
    """The tokens that the model writes; none of a prompt, so none in `lab.record`."""

    def where(self, run: Pass) -> Bool[Tensor, "batch pos"]:
        return (run.positions >= 0) & run.is_reply

    def __str__(self) -> str:
        return tr("generated tokens")


@dataclass(frozen=True)
class Last(Everywhere):
    """The last token of the prompt, whose logits predict the first token of a reply."""

    def where(self, run: Pass) -> Bool[Tensor, "batch pos"]:
        last = torch.zeros_like(run.positions, dtype=torch.bool)
        last[:, -1] = not run.is_reply
        return last

    def __str__(self) -> str:
        return tr("last token of the prompt")


@dataclass(frozen=True)
class At(Everywhere):
    """Positions in the text, from 0 on, or a slice of them."""

    tokens: slice | frozenset[int]

    def where(self, run: Pass) -> Bool[Tensor, "batch pos"]:
        at = run.positions
        if isinstance(self.tokens, frozenset):
            return torch.isin(at, torch.tensor(sorted(self.tokens), device=at.device))
        start, stop, step = self.tokens.start or 0, self.tokens.stop, self.tokens.step or 1
        inside = (at >= start) & ((at - start) % step == 0)
        return inside if stop is None else inside & (at < stop)

    def __str__(self) -> str:
        if isinstance(self.tokens, slice):
            start, stop, step = self.tokens.start or 0, self.tokens.stop, self.tokens.step or 1
            if stop is None:
                span = tr("tokens from {start} on", start=start)
            else:
                span = tr("tokens from {start} to {last}", start=start, last=stop - 1)
            return span + (tr(", every {step}", step=step) if step > 1 else "")
        return tr("tokens {listed}", listed=", ".join(map(str, sorted(self.tokens))))


@dataclass(frozen=True, eq=False)
class Thinking(EqualByValue, Everywhere):
    """The tokens from `<think>` on, before `</think>`; `steering.thinking(lab)` makes it.

    A pass is told no token ids, so the two marks are recognised by their embeddings.

    Attributes:
        opens: embedding of `<think>`.
        closes: embedding of `</think>`.
    """

    opens: Float[Tensor, " d_model"]
    closes: Float[Tensor, " d_model"]

    def where(self, run: Pass) -> Bool[Tensor, "batch pos"]:
        return (run.positions >= 0) & run.thinks

    def thinks(
        self, embed: Float[Tensor, "batch pos d_model"], before: Bool[Tensor, " batch"]
    ) -> Bool[Tensor, "batch pos"]:
        place = torch.arange(embed.shape[1], device=embed.device)
        opened, closed = (
            torch.where((embed == mark.to(embed)).all(dim=-1), place, -1).cummax(dim=1).values
            for mark in (self.opens, self.closes)
        )
        return torch.where(opened == closed, before[:, None], opened > closed)

    def __str__(self) -> str:
        return tr("thinking tokens")


EVERYWHERE = Everywhere()
Positions = int | slice | Iterable[int] | str | Everywhere
"""Positions in the text from 0 on, a slice of them, "all", "last" for the last token of the prompt,
"generated" for the tokens of the reply, or `thinking(lab)`."""


@checked
def thinking(lab: Lab) -> Thinking:
    """The place that selects thinking tokens: `vector.at(positions=steering.thinking(lab))`.

    From `<think>` on, and before `</think>`, wherever these are: in the prompt or the reply.

    Raises:
        ValueError: the model's tokenizer has no `<think>` and `</think>`.
    """
    marks = lab.marks
    if marks.think is None or marks.end_think is None:
        raise ValueError(
            f"the tokenizer of {lab.name} has no <think> and </think>: choose positions, "
            '"all" or "generated"'
        )
    rows = lab.model.embed.weight.detach()
    return Thinking(rows[marks.think].clone().cpu(), rows[marks.end_think].clone().cpu())


def place_of(positions: Positions) -> Everywhere:
    """The place that an argument names.

    Raises:
        HookError: a negative position, no position, or an unknown word.
    """
    if isinstance(positions, Everywhere):
        return positions
    if isinstance(positions, str):
        words: dict[str, Everywhere] = {
            "all": EVERYWHERE,
            "last": Last(),
            "generated": Generated(),
        }
        if positions not in words:
            raise HookError(
                tr(
                    'positions is {positions!r}: expected numbers, a slice, "all", "last", '
                    '"generated" or steering.thinking(lab)',
                    positions=positions,
                )
            )
        return words[positions]
    return At(_numbers(positions))


def _numbers(positions: int | slice | Iterable[int]) -> slice | frozenset[int]:
    if isinstance(positions, slice):
        step = 1 if positions.step is None else positions.step
        numbers: list[Any] = [positions.start, positions.stop, step - 1]
    else:
        numbers = [positions] if isinstance(positions, int) else list(positions)
    if not numbers:
        raise HookError(tr("the list of positions is empty: name at least one"))
    if any(number is not None and number < 0 for number in numbers):
        raise HookError(
            tr(
                "a position is negative: expected 0 or more, because the end of the text "
                "is unknown during generation"
            )
        )
    return positions if isinstance(positions, slice) else frozenset(numbers)
