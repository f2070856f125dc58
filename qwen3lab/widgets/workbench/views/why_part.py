"""The pane of the picked part in the why view: what it does, and buttons that change it."""

import html

import ipywidgets as w

from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.explorers.chat_compute import attention_heatmap, routing_heatmap
from qwen3lab.widgets.explorers.controls import WIDE, Bindings
from qwen3lab.widgets.explorers.replies import answers_html
from qwen3lab.widgets.explorers.why_compute import next_of, part_name, recording_of
from qwen3lab.widgets.workbench.views.view import View, pane, row, scroller, show_only

NO_PART = later(
    "Click a bar of “What wrote it” or a cell of “What it needs” to pick a "
    "head, an expert, an MLP or a layer."
)
HINTS = {
    "head": later("click a row to explain the token after it"),
    "expert": later("click a column to explain the token after it, and a row to pick its expert"),
}
OPENS = {"head": later("Attention view"), "expert": later("Routing view")}


class PartPane:
    """The picked part: its attention or its routing, and the buttons to change it and ask again.

    Args:
        view: the why view.

    Attributes:
        pane: the frame with all of it.
    """

    def __init__(self, view: View) -> None:
        self.view, self.state, self.config, self.lock = view, view.state, view.config, view.lock
        self.bindings = Bindings(view.state)
        self.picked, self.replies = w.HTML(), w.HTML()
        self.inside = Canvas(height=90, fills=True).add_class("q3-plain")
        self.strength = w.BoundedFloatText(
            min=-10.0,
            max=10.0,
            step=0.1,
            description=tr("strength"),
            tooltip=tr(
                "In multiples of the mean norm of the residual stream at the layer; "
                "negative: towards the written token"
            ),
            style=WIDE,
            layout=w.Layout(width="125px"),
        )
        self.take_away = button(
            tr("Take away, ask again"), tr("Ask without the picked part"), "auto"
        )
        self.patch = button(
            tr("Patch, ask again"),
            tr("Ask with the other question's stream at this layer and token"),
            "auto",
        )
        self.steer = button(tr("Steer, ask again"), "", "auto")
        self.keep = button(
            tr("Keep this change"), tr("Put the latest change in force for all runs"), "auto"
        )
        self.open = button("", tr("Show it there, with the same reply"), "auto")
        self.bindings.bind("strength", self.strength)
        why = view.bench.why
        self.take_away.on_click(lambda _: why.take_away())
        self.patch.on_click(lambda _: why.patch())
        self.steer.on_click(lambda _: why.steer())
        self.open.on_click(lambda _: why.open_part())
        self.keep.on_click(lambda _: why.keep())
        buttons = row(self.take_away, self.patch, self.open, self.steer, self.strength, self.keep)
        body = scroller(self.replies, self.inside)
        self.pane = pane(tr("Picked part"), "", self.picked, buttons, body)
        self._follow()

    def _follow(self) -> None:
        follow = self.view.follow
        follow(self.draw, ["part", "explained"])
        follow(self.draw_replies, ["chat", "edited"])
        follow(self.enable, ["part", "explained", "status", "layer"])
        on_pick(self.inside, "selected", lambda cell: self.pick_inside(*cell))

    def enable(self) -> None:
        """Show the buttons that fit the part, and disable those that have no effect now."""
        state, found = self.state, self.state.explained
        kind = state.part[0] if state.part else ""
        busy = state.status != "idle" or found is None
        self.take_away.disabled = busy or not kind
        self.patch.disabled = self.steer.disabled = busy
        self.open.disabled = state.current is None
        show_only(kind != "layer", self.take_away)
        show_only(kind == "layer", self.patch)
        show_only(kind in OPENS, self.open)
        self.open.description = tr(OPENS.get(kind, ""))
        other = "" if found is None else tr(" towards “{other}”", other=found.other)
        self.steer.tooltip = tr(
            "Push the stream at layer {layer}{other}, from here on",
            layer=state.layer,
            other=other,
        )

    @shows_drawing_errors
    def draw(self) -> None:
        """Show what the picked part does in this run: its attention, or the routing to it."""
        state, chat = self.state, self.state.current
        kind = state.part[0] if state.part and chat is not None else ""
        with self.lock:
            name = f"<b>{html.escape(part_name(state.part))}</b> " if kind else ""
            hint = tr(HINTS.get(kind, "") if kind else NO_PART)
            self.picked.value = f'{name}<span class="q3-hint">{hint}</span>'
            show_only(kind in HINTS, self.inside)
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

    @shows_drawing_errors
    def draw_replies(self) -> None:
        """Show the reply beside the one with a part changed, if there is one."""
        chat, edited = self.state.current, self.state.edited
        shown = chat is not None and edited is not None
        pairs = [(tr("as it is"), chat), (self.state.edited_name, edited)]
        self.replies.value = answers_html(pairs) if shown else ""
        show_only(shown, self.keep)

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
