"""The card of the picked part in the why explorer: what it does, and the buttons that change it."""

import html
from collections.abc import Callable
from threading import RLock

import ipywidgets as w

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.layout import card
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.explorers.chat_compute import attention_heatmap, routing_heatmap
from qwen3lab.widgets.explorers.controls import WIDE, Bindings
from qwen3lab.widgets.explorers.why_compute import next_of, part_name, recording_of
from qwen3lab.widgets.explorers.why_state import WhyState

NO_PART = (
    "Click a bar of “What wrote it” or a cell of “What it needs” to pick a head, an expert, an MLP "
    "or a layer."
)
HINTS = {
    "head": "click a row to explain the token after it",
    "expert": "click a column to explain the token after it, and a row to pick its expert",
}
HEIGHT = "500px"
"""Of the card, also when nothing is picked: a page that grows by a click scrolls away from it."""
EXPLORERS = {"head": "Attention explorer", "expert": "Routing explorer"}


class PartCard:
    """The picked part: its attention or its routing, and the buttons to change it and ask again.

    Args:
        state: has the part, the token and the reply.
        config: of the model.
        lock: held while a widget is drawn.
    """

    def __init__(self, state: WhyState, config: Qwen3Config, lock: RLock) -> None:
        self.state, self.config, self.lock = state, config, lock
        self.bindings = Bindings(state)
        self.picked, self.hint = w.HTML(), w.HTML()
        self.inside = Canvas(height=320)
        self.strength = w.BoundedFloatText(
            min=-10.0,
            max=10.0,
            step=0.1,
            description="strength",
            tooltip="In multiples of the mean norm of the residual stream at the layer; negative: "
            "towards the written token",
            style=WIDE,
            layout=w.Layout(width="140px"),
        )
        self.take_away = button("Take away, ask again", "Ask without the picked part", "165px")
        self.patch = button(
            "Patch, ask again",
            "Ask with the other question's stream at this layer and token",
            "140px",
        )
        self.steer = button("Steer, ask again", "", "140px")
        self.open = button("", "Show this reply there, at the picked part", "175px")
        self.bindings.bind("strength", self.strength)
        self._follow()
        self.draw()

    def connect(
        self,
        *,
        take_away: Callable[[], None],
        patch: Callable[[], None],
        steer: Callable[[], None],
        open_part: Callable[[], None],
    ) -> None:
        """Set the callbacks of the buttons."""
        self.take_away.on_click(lambda _: take_away())
        self.patch.on_click(lambda _: patch())
        self.steer.on_click(lambda _: steer())
        self.open.on_click(lambda _: open_part())

    def card(self) -> w.VBox:
        """The card."""
        wrap = w.Layout(flex_flow="row wrap", align_items="center", grid_gap="6px 10px")
        there = w.Box([self.take_away, self.patch, self.open], layout=wrap)
        push = w.Box([self.steer, self.strength], layout=wrap)
        shown = (self.picked, there, push, self.inside, self.hint)
        found = card("Picked part", "in this run", *shown, grows=True)
        found.layout.min_height = HEIGHT
        return found

    def _follow(self) -> None:
        watch = self.bindings.watch
        watch(lambda _: self.draw(), ["part", "explained"])
        watch(lambda _: self.enable(), ["part", "explained", "status", "layer"])
        on_pick(self.inside, "selected", lambda cell: self.pick_inside(*cell))
        self.enable()

    def enable(self) -> None:
        """Show the buttons that fit the part, and disable those that have no effect now."""
        state, found = self.state, self.state.explained
        kind = state.part[0] if state.part else ""
        busy = state.status != "idle" or found is None
        self.take_away.disabled = busy or not kind
        self.patch.disabled = self.steer.disabled = busy
        self.open.disabled = state.current is None
        _show(self.take_away, kind != "layer")
        _show(self.patch, kind == "layer")
        _show(self.open, kind in EXPLORERS)
        self.open.description = EXPLORERS.get(kind, "")
        other = "" if found is None else f" towards “{found.other}”"
        self.steer.tooltip = f"Push the stream at layer {state.layer}{other}, from here on"

    @shows_drawing_errors
    def draw(self) -> None:
        """Show what the picked part does in this run: its attention, or the routing to it."""
        state, chat = self.state, self.state.current
        kind = state.part[0] if state.part and chat is not None else ""
        with self.lock:
            name = f"<b>{html.escape(part_name(state.part))}</b>" if kind else NO_PART
            self.picked.value = name if kind else f'<span class="q3-hint">{name}</span>'
            self.hint.value = f'<span class="q3-hint">{HINTS.get(kind, "")}</span>'
            _show(self.inside, kind in HINTS)
            _show(self.hint, kind in HINTS)
            if chat is None or kind not in HINTS:
                return
            _, layer, number = state.part
            recording = recording_of(chat)
            if kind == "head":
                self.inside.show(attention_heatmap(recording, layer, number))
                self.inside.marked = [state.token - 1, -1]
            else:
                self.inside.show(routing_heatmap(recording, layer))
                self.inside.marked = [number, state.token - 1]

    def pick_inside(self, row: int, column: int) -> None:
        """Explain the token after the clicked one; of routing, pick the clicked expert, too."""
        state, chat = self.state, self.state.current
        if chat is None or not state.part or min(row, column) < 0:
            return
        kind, layer, _ = state.part
        if kind == "expert":
            state.part = (kind, layer, row)
        state.token = next_of(chat, row if kind == "head" else column)


def button(text: str, tooltip: str, width: str) -> w.Button:
    """A button of a width."""
    return w.Button(description=text, tooltip=tooltip, layout=w.Layout(width=width))


def _show(widget: w.DOMWidget, shown: bool) -> None:
    widget.layout.display = "" if shown else "none"
