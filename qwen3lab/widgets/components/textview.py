"""The text of a recording: pointing at a token shades the text by its attention weights."""

from collections.abc import Callable, Sequence

import anywidget
import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from qwen3lab.figures.theme import visible
from qwen3lab.widgets.components.scripts import script


class TextView(anywidget.AnyWidget):
    """Shows tokens in order; the pointer or the arrow keys request the weights of a token.

    Attributes:
        text: `first` is the number of the first token; `tokens` has for each token its visible
            text, its part of the conversation, and whether it contains a line break.
        token: number of the token under the pointer or the keyboard cursor; -1 for none.
        picked: number of the clicked token, which stays selected; -1 for none.
        weights: attention weights of token `shaded`, one byte for each token shown.
        shaded: number of the token that `weights` belong to; -1 for none.
    """

    _esm = script("textview.js")
    text = traitlets.Dict({"first": 0, "tokens": []}).tag(sync=True)
    token = traitlets.Int(-1).tag(sync=True)
    picked = traitlets.Int(-1).tag(sync=True)
    weights = traitlets.Bytes(b"").tag(sync=True)
    shaded = traitlets.Int(-1).tag(sync=True)

    def show(self, tokens: Sequence[str], parts: Sequence[str], first: int) -> None:
        """Show these tokens.

        Args:
            tokens: their texts.
            parts: the part of each token: prompt, thinking, answer, or empty.
            first: number of the first token.
        """
        shown = [[visible(t), part, "\n" in t] for t, part in zip(tokens, parts, strict=True)]
        with self.hold_sync():
            self.weights, self.shaded = b"", -1
            self.text = {"first": first, "tokens": shown}

    def shade(self, token: int, values: Float[Tensor, " token"]) -> None:
        """Shade the tokens shown by the attention weights of one token.

        Args:
            token: number of the token that the weights belong to.
            values: one weight from 0 to 1 for each token shown.
        """
        with self.hold_sync():
            self.shaded = token
            self.weights = _weight_bytes(values)

    def on_token(self, handler: Callable[[int], None]) -> None:
        """Call `handler` with the number of the token under the pointer, or picked."""
        self.observe(lambda change: handler(change["new"]), "token")


def _weight_bytes(values: Float[Tensor, " token"]) -> bytes:
    """Attention weights from 0 to 1 as bytes from 0 to 255."""
    return (values.clamp(0, 1) * 255).round().to(torch.uint8).numpy().tobytes()
