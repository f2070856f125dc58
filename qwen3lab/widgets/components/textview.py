"""The text of a recording, with each token shaded by a number."""

from collections.abc import Callable, Sequence
from typing import Any

import anywidget
import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from qwen3lab.figures.scales import LINEAR, ColourScale
from qwen3lab.figures.theme import visible
from qwen3lab.widgets.components.scripts import script


class TextView(anywidget.AnyWidget):
    """Shows tokens in order, shaded by one number each; a click or the arrow keys pick one.

    Attributes:
        text: `first` is the number of the first token; `tokens` has for each token its visible
            text, its part of the conversation, and whether it contains a line break.
        token: number of the token under the pointer, if the shades follow it; -1 for none.
        picked: number of the picked token; -1 for none.
        values: one number for each token shown, as 32-bit floats; NaN for none.
        shades: `title` says what the numbers are, `high` is the value of the darkest shade, `kind`
            and `low` are those of a scale that is not linear from 0, `note` says what the scale is,
            `nothing` is what a token without a number is, and `follows` is true if the numbers
            belong to one token: pointing at another one then asks for its numbers.
        shaded: number of the token that `values` belong to; -1 for none.
        shown: first and past-the-end number of the tokens shown.
        hits: first and past-the-end token of each place to mark.
        notes: text of the note on a token, by the token's number as text; it is marked.
    """

    _esm = script("textview.js")
    text: "traitlets.Dict[str, Any]" = traitlets.Dict({"first": 0, "tokens": []}).tag(sync=True)
    token = traitlets.Int(-1).tag(sync=True, echo_update=False)
    picked = traitlets.Int(-1).tag(sync=True, echo_update=False)
    values = traitlets.Bytes(b"").tag(sync=True)
    shades = traitlets.Dict({"title": "", "high": 1.0, "nothing": "", "follows": False}).tag(
        sync=True
    )
    shaded = traitlets.Int(-1).tag(sync=True)
    shown: tuple[int, int] = (0, 0)
    hits = traitlets.List().tag(sync=True)
    notes: "traitlets.Dict[str, str]" = traitlets.Dict().tag(sync=True)

    def show(self, tokens: Sequence[str], parts: Sequence[str], first: int) -> None:
        """Show these tokens.

        Args:
            tokens: their texts.
            parts: the part of each token: prompt, thinking, answer, or empty.
            first: number of the first token.
        """
        shown = [[visible(t), part, "\n" in t] for t, part in zip(tokens, parts, strict=True)]
        with self.hold_sync():
            self.values, self.shaded = b"", -1
            self.text = {"first": first, "tokens": shown}
        self.shown = (first, first + len(shown))

    def shade(
        self,
        values: Float[Tensor, " token"] | None,
        *,
        title: str,
        high: float = 1.0,
        nothing: str = "",
        token: int = -1,
        follows: bool = False,
        scale: ColourScale | None = None,
    ) -> None:
        """Shade the tokens shown.

        Args:
            values: one number from 0 for each token shown, NaN for none; None for no shades.
            title: what the numbers are, with their unit.
            high: value of the darkest shade.
            nothing: what a token without a number is.
            token: number of the token that the numbers belong to; -1 for none.
            follows: True if pointing at a token asks for its numbers.
            scale: of the shades; None for a linear one from 0 to `high`.
        """
        scale = scale or ColourScale(LINEAR, 0.0, high)
        with self.hold_sync():
            self.shaded = token
            shades = {"title": title, "nothing": nothing, "follows": follows}
            shades |= {"high": scale.high, "low": scale.low, "kind": scale.kind}
            self.shades = shades | {"note": scale.note(), "clipped": scale.clipped}
            self.values = b"" if values is None else values.to(torch.float32).numpy().tobytes()

    def on_token(self, handler: Callable[[int], None]) -> None:
        """Call `handler` with the number of the token under the pointer."""
        self.observe(lambda change: handler(change["new"]), "token")

    def on_pick(self, handler: Callable[[int], None]) -> None:
        """Call `handler` with the number of a token that was picked."""
        self.observe(lambda change: handler(change["new"]), "picked")
