"""Where in its text each token of a forward pass is, for edits that depend on it."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import HookError
from qwen3lab.translation import tr

Tokens = int | slice | Iterable[int]
"""Positions in a text from 0 on: one, a slice, or several."""

Chosen = slice | frozenset[int]


def check_layer(layer: int, config: Qwen3Config) -> None:
    """Raises `HookError` for a layer that the model does not have; layers count from 0."""
    if not 0 <= layer < config.n_layers:
        raise HookError(
            tr(
                "layer {layer} does not exist: the model has layers 0 to {last}",
                layer=layer,
                last=config.n_layers - 1,
            )
        )


class RunPositions:
    """Counts the tokens of a run, pass by pass: a reply is written one token after another.

    Args:
        padding: number of padded positions before the first token of each row.

    Attributes:
        now: text positions of the current pass's tokens; negative for padding.
    """

    def __init__(self, padding: Sequence[int]) -> None:
        self.padding, self.n_past = torch.tensor(padding), 0
        self.now: Int[Tensor, "batch pos"] = torch.zeros(len(padding), 0, dtype=torch.long)

    def count(self, embed: Float[Tensor, "batch pos d_model"], name: str) -> None:
        """An edit of `hook_embed`, with which a pass begins; it changes nothing."""
        self.now = self._columns(self.n_past, self.n_past + embed.shape[1], embed.device)
        self.n_past += embed.shape[1]

    def keys(self, device: torch.device) -> Int[Tensor, "batch key"]:
        """Text positions of all keys that the current pass attends to."""
        return self._columns(0, self.n_past, device)

    def _columns(self, first: int, end: int, device: torch.device) -> Int[Tensor, "batch column"]:
        return (torch.arange(first, end) - self.padding[:, None]).to(device)


def chosen(tokens: Tokens) -> Chosen:
    """Positions as a slice or a set.

    Raises:
        HookError: a negative position.
    """
    if isinstance(tokens, slice):
        positions = [
            end for end in (tokens.start, tokens.stop, (tokens.step or 1) - 1) if end is not None
        ]
    else:
        positions = [tokens] if isinstance(tokens, int) else list(tokens)
    if any(position < 0 for position in positions):
        raise HookError(
            tr(
                "a token position is negative: expected positions of 0 or more, because "
                "the end of the text is unknown during generation"
            )
        )
    return tokens if isinstance(tokens, slice) else frozenset(positions)


def among(positions: Int[Tensor, "batch pos"], tokens: Chosen | None) -> Bool[Tensor, "batch pos"]:
    """True at the positions that are chosen; None means all of a text, without the padding."""
    if tokens is None:
        return positions >= 0
    if isinstance(tokens, frozenset):
        return torch.isin(positions, torch.tensor(sorted(tokens), device=positions.device))
    start, stop, step = tokens.start or 0, tokens.stop, tokens.step or 1
    inside = (positions >= start) & ((positions - start) % step == 0)
    return inside if stop is None else inside & (positions < stop)
