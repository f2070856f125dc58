"""Widgets common to all explorers: controls, conversation, and error messages."""

import threading
from collections.abc import Sequence

import ipywidgets as w

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.layout import Alert, close_widgets_of
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.components.transcript import Transcript
from qwen3lab.widgets.explorers.chat_compute import progress
from qwen3lab.widgets.explorers.controls import Bindings, Controls, HasBindings
from qwen3lab.widgets.explorers.state import ExplorerState

WAITING = "The plot appears after the first run."


class ReplyPanel:
    """Widgets that follow an `ExplorerState`; rebuilt each time that the explorer is displayed.

    Attributes:
        root: the widget to display; subclasses set it.
    """

    root: w.VBox

    def __init__(self, config: Qwen3Config, state: ExplorerState, examples: Sequence[str]) -> None:
        self.state, self.config, self.bindings = state, config, Bindings(state)
        self.lock = threading.RLock()  # The worker thread and callbacks both draw.
        self.controls = Controls(state, examples)
        self.transcript = Transcript(layout=w.Layout(flex="1 1 auto"))
        self.alert = Alert()
        self.bound_parts: list[HasBindings] = [self.controls]
        self.bindings.watch(lambda _: self.draw_reply(), ["chips", "status", "asked_budget"])
        self.bindings.watch(lambda _: self.draw_error(), ["error", "drawing_error"])
        on_pick(self.transcript, "selected", self.pick_chip)
        self.draw_reply()
        self.draw_error()

    @shows_drawing_errors
    def draw_reply(self) -> None:
        """Show the tokens generated so far."""
        with self.lock:
            state = self.state
            self.transcript.show(state.run, state.asked, state.chips, progress(state))

    def draw_error(self) -> None:
        """Show the errors as text; hide the box without an error."""
        self.alert.say("\n".join(filter(None, (self.state.error, self.state.drawing_error))))

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
        for bindings in (self.bindings, *(part.bindings for part in self.bound_parts)):
            bindings.unbind()
        close_widgets_of(self, *self.bound_parts)
