"""What every explorer shows: controls, the conversation as it is written, and the error."""

import threading
from collections.abc import Sequence

import ipywidgets as w

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.widgets.components.error_display import says_undrawn
from qwen3lab.widgets.components.layout import Alert, close_held
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.components.transcript import Transcript
from qwen3lab.widgets.explorers.chat_compute import progress
from qwen3lab.widgets.explorers.controls import Controls, Pickers, Ties
from qwen3lab.widgets.explorers.state import ExplorerState


class ReplyPanel:
    """Widgets that follow an `ExplorerState`: built when shown, closed when shown again.

    Attributes:
        root: all of it, to be shown; set by the class that arranges it.
    """

    root: w.VBox

    def __init__(self, config: Qwen3Config, state: ExplorerState, examples: Sequence[str]) -> None:
        self.state, self.config, self.ties = state, config, Ties(state)
        self.lock = threading.RLock()  # The worker draws what has come, callbacks what is picked.
        self.controls = Controls(state, examples)
        self.transcript = Transcript(layout=w.Layout(flex="1 1 auto"))
        self.alert = Alert()
        self.held: list[Controls | Pickers] = [self.controls]
        self.ties.watch(lambda _: self.draw_reply(), ["chips", "status", "asked_budget"])
        self.ties.watch(lambda _: self.draw_error(), ["error", "undrawn"])
        on_pick(self.transcript, "selected", self.pick_chip)
        self.draw_reply()
        self.draw_error()

    @says_undrawn
    def draw_reply(self) -> None:
        """Show the tokens that have come so far."""
        with self.lock:
            state = self.state
            self.transcript.show(state.run, state.asked, state.chips, progress(state))

    def draw_error(self) -> None:
        """Show the errors, as text; hide the box where there is none."""
        self.alert.say("\n".join(filter(None, (self.state.error, self.state.undrawn))))

    def mark_reply(self) -> None:
        """Mark the picked token in the conversation."""
        chat = self.state.current
        first = chat.spans["prompt"][1] if chat is not None else 0
        self.transcript.marked = self.state.token - first if self.state.token >= first else -1

    def pick_chip(self, index: int) -> None:
        """Pick a token of the reply."""
        if index >= 0 and self.state.current is not None:
            self.state.token = self.state.current.spans["prompt"][1] + index

    def close(self) -> None:
        """Take every widget out of the page and out of memory."""
        for ties in (self.ties, *(part.ties for part in self.held)):
            ties.cut()
        close_held(self, *self.held)
