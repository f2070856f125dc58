"""The likeliest tokens at one place of a text as buttons, with their probabilities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anywidget
import traitlets

from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.components.scripts import script


@dataclass(frozen=True)
class AlternativeButton:
    """One token of the list.

    Attributes:
        text: its visible text.
        share: its probability, from 0 to 1.
        percent: the probability as text.
        is_written: True for the token that is in the text.
    """

    text: str
    share: float
    percent: str
    is_written: bool


class AlternativeList(anywidget.AnyWidget):
    """Shows tokens that a model could have written; a click picks one, but the written one.

    Attributes:
        alternatives: the fields of `AlternativeButton` of each token, as a list.
        note: a sentence after the tokens or in their place; empty for none.
        hint: what a click does, and why it does nothing if `enabled` is false.
        enabled: false if no token can be picked.
        picked: index of the token that was clicked; `on_pick` resets it to -1.
    """

    _esm = script("alternative_list.js")
    alternatives = traitlets.List().tag(sync=True)
    note = traitlets.Unicode().tag(sync=True)
    hint = traitlets.Unicode().tag(sync=True)
    enabled = traitlets.Bool(True).tag(sync=True)
    picked = traitlets.Int(-1).tag(sync=True, echo_update=False)

    def show(
        self,
        alternatives: Sequence[AlternativeButton],
        *,
        note: str = "",
        hint: str = "",
        enabled: bool = True,
    ) -> None:
        """Show these tokens, or the note alone; nothing if both are empty."""
        with self.hold_sync():
            self.note, self.hint, self.enabled = note, hint, enabled
            self.alternatives = [
                [each.text, each.share, each.percent, each.is_written] for each in alternatives
            ]

    def on_alternative(self, handler: Callable[[int], None]) -> None:
        """Call `handler` with the index of each token that is clicked."""
        on_pick(self, "picked", handler)
