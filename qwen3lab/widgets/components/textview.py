"""The text itself: the token under the pointer shades those that it looks at."""

from collections.abc import Callable, Sequence

import anywidget
import traitlets
from jaxtyping import Float
from torch import Tensor

from qwen3lab.figures.theme import visible
from qwen3lab.widgets.components.scripts import script
from qwen3lab.widgets.explorers.attention_compute import quantised


class TextView(anywidget.AnyWidget):
    """Shows tokens in their order; hovering, or the arrow keys, asks for a token's weights.

    Attributes:
        text: `first`, the number of the first token, and `tokens`, each as it is shown and the
            part that it belongs to.
        token: the token under the pointer or the keyboard, by its number; -1 for none.
        picked: the token that was clicked; stays shaded.
        weights: one byte for each token that is shown, for `shaded`.
        shaded: the token whose weights these are.
    """

    _esm = script("textview.js")
    text = traitlets.Dict({"first": 0, "tokens": []}).tag(sync=True)
    token = traitlets.Int(-1).tag(sync=True)
    picked = traitlets.Int(-1).tag(sync=True)
    weights = traitlets.Bytes(b"").tag(sync=True)
    shaded = traitlets.Int(-1).tag(sync=True)

    def show(self, tokens: Sequence[str], parts: Sequence[str], first: int) -> None:
        """Show these tokens, the first of them with this number."""
        shown = [[visible(t), part, "\n" in t] for t, part in zip(tokens, parts, strict=True)]
        with self.hold_sync():
            self.weights, self.shaded = b"", -1
            self.text = {"first": first, "tokens": shown}

    def shade(self, token: int, values: Float[Tensor, " token"]) -> None:
        """Shade the tokens that are shown by these weights, which are those of a token."""
        with self.hold_sync():
            self.shaded = token
            self.weights = quantised(values)

    def on_token(self, handler: Callable[[int], None]) -> None:
        """Call with the token that is pointed at, or picked."""
        self.observe(lambda change: handler(change["new"]), "token")
