"""The routing explorer on the screen: panes that follow the state. No computation, no model."""

import html
from collections.abc import Callable, Sequence

import ipywidgets as w

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.error_display import says_undrawn
from qwen3lab.widgets.components.layout import GAP, card, columns, heading, page
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.explorers.chat_compute import routing_heatmap
from qwen3lab.widgets.explorers.controls import WIDE, Pickers
from qwen3lab.widgets.explorers.replies import answers_html
from qwen3lab.widgets.explorers.reply_panel import ReplyPanel
from qwen3lab.widgets.explorers.routing_compute import (
    chips_html,
    choice_notes,
    comparison_note,
    load_heatmap,
    served_line,
    served_tokens,
    token_heatmap,
)
from qwen3lab.widgets.explorers.routing_state import COMPARE, RoutingState, answers

WAITING = "The plot appears when the first run has ended."
NO_TOKEN = "Click a token: its experts in every layer stand here."
NO_EXPERT = "Click an expert in any of the plots: whom it serves stands here."


class RoutingPanel(ReplyPanel):
    """Controls and reply, with experts by token, by layer and by themselves."""

    state: RoutingState

    def __init__(
        self, name: str, config: Qwen3Config, state: RoutingState, examples: Sequence[str]
    ) -> None:
        super().__init__(config, state, examples)
        self.look_up: Callable[[int, int], str] = lambda layer, expert: ""
        self.pickers = Pickers(state, config)
        self.held.append(self.pickers)
        self.routing = Canvas(height=max(220, min(520, 110 + 14 * config.n_experts)))
        layers = len(config.moe_layers)
        self.by_layer = Canvas(height=max(180, min(520, 110 + 18 * layers)))
        self.load = Canvas(height=max(180, min(520, 110 + 18 * layers)))
        self._make_controls()
        self._make_words()
        self.root = self._arrange(name)
        self._follow()
        for draw in (self.draw_routing, self.draw_token, self.draw_expert, self.draw_load):
            draw()

    def connect(
        self, *, switch: Callable[[], None], all_on: Callable[[], None], write: Callable[[], None]
    ) -> None:
        """Say what the buttons about experts do."""
        self.switch.on_click(lambda _: switch())
        self.all_on.on_click(lambda _: all_on())
        self.write.on_click(lambda _: write())

    def _make_controls(self) -> None:
        self.compare = w.Dropdown(
            options=COMPARE,
            description="compare with",
            tooltip="What to run beside the question",
            style=WIDE,
            layout=w.Layout(width="250px"),
        )
        self.other_question = w.Text(
            description="other question",
            tooltip="Asked as well, where another question is compared",
            style=WIDE,
            layout=w.Layout(flex="1 1 240px", width="auto"),
        )
        self.ties.tie("compare", self.compare)
        self.ties.tie("other_question", self.other_question)
        self.switch = w.Button(
            icon="power-off",
            tooltip="Switch this expert and ask the same question again",
            layout=w.Layout(width="230px"),
        )
        self.write = w.Button(
            description="What does it write?",
            icon="pencil",
            tooltip="Its mean output on this run's tokens, through the unembedding",
            layout=w.Layout(width="190px"),
        )
        self.all_on = w.Button(
            description="Every expert on", layout=w.Layout(width="150px", display="none")
        )

    def _make_words(self) -> None:
        self.choice, self.served, self.writing = w.HTML(), w.HTML(), w.HTML()
        self.replies, self.note, self.off = w.HTML(), w.HTML(), w.HTML()

    def _follow(self) -> None:
        watch = self.ties.watch
        watch(lambda _: self.draw_run(), ["chat"])
        watch(lambda _: self.draw_routing(), ["routing_layer"])
        watch(lambda _: self.draw_token(), ["token", "routing_layer"])
        watch(lambda _: self.draw_expert(), ["expert", "routing_layer", "off", "status"])
        watch(lambda _: self.enable(), ["compare"])
        self.enable()
        on_pick(self.routing, "selected", lambda cell: self.pick_served(*cell))
        on_pick(self.by_layer, "selected", lambda cell: self.pick_expert(*cell))
        on_pick(self.load, "selected", lambda cell: self.pick_expert(*cell))

    def enable(self) -> None:
        """Show the box for another question only where one is compared."""
        self.other_question.layout.display = "" if self.state.compare == COMPARE[2] else "none"

    def draw_run(self) -> None:
        """Draw all that a finished run changes."""
        for draw in (self.draw_routing, self.draw_token, self.draw_expert, self.draw_load):
            draw()
        self.draw_answers()

    @says_undrawn
    def draw_routing(self) -> None:
        """Draw the routing of the picked layer."""
        chat = self.state.chat
        with self.lock:
            if chat is None or not self.config.is_moe:
                self.routing.show_nothing(WAITING)
            else:
                self.routing.show(routing_heatmap(chat.recording, self.state.routing_layer))
            self.mark()

    @says_undrawn
    def draw_token(self) -> None:
        """Draw the picked token's experts in every layer, and say how open the choice was."""
        seen, token = self.state.seen, self.state.token
        with self.lock:
            if seen is None or not 0 <= token < len(seen):
                self.by_layer.show_nothing(NO_TOKEN)
                self.choice.value = ""
                return
            self.by_layer.show(token_heatmap(seen, token))
            notes = choice_notes(seen, token, self.state.routing_layer)
            lines = "".join(f"<div>{html.escape(note)}</div>" for note in notes)
            self.choice.value = f'<div class="q3-notes">{lines}</div>'
            self.mark()

    @says_undrawn
    def draw_expert(self) -> None:
        """Say whom the picked expert serves, here and in the corpus."""
        state, seen = self.state, self.state.seen
        layer, expert = state.routing_layer, state.expert
        with self.lock:
            self.writing.value = ""
            idle = state.status == "idle" and seen is not None and expert >= 0
            self.switch.disabled = self.write.disabled = not idle
            is_off = (layer, expert) in state.off
            turn = "on" if is_off else "off"
            self.switch.description = f"Switch {turn} and ask again"
            self.switch.button_style = "success" if is_off else "warning"
            self.all_on.layout.display = "" if state.off else "none"
            named = ", ".join(f"expert {e} of layer {at}" for at, e in state.off)
            self.off.value = f'<span class="q3-hint">{named and "off: " + named}</span>'
            if seen is None or expert < 0:
                self.served.value = f'<span class="q3-hint">{NO_EXPERT}</span>'
                return
            here = chips_html(served_tokens(seen, layer, expert))
            self.served.value = (
                f"<div><b>Expert {expert} of layer {layer}</b> "
                f"{served_line(seen, layer, expert)}</div>"
                f'<div class="q3-hint">in this run, by weight</div>{here}'
                f'<div class="q3-hint">in the corpus, by share of its occurrences</div>'
                f"{self.look_up(layer, expert)}"
            )
            self.mark()

    @says_undrawn
    def draw_load(self) -> None:
        """Draw the load of every expert, or how it differs from that of the run beside."""
        seen, other = self.state.seen, self.state.other or self.state.whole
        with self.lock:
            if seen is None:
                self.load.show_nothing(WAITING)
                return
            name = self.state.other_name or "every expert on"
            beside = other.recording if other is not None else None
            self.load.show(load_heatmap(seen, beside, name))
            note = comparison_note(seen, beside) if beside is not None else ""
            self.note.value = f'<span class="q3-hint">{html.escape(note)}</span>'

    @says_undrawn
    def draw_answers(self) -> None:
        """Lay the replies side by side."""
        with self.lock:
            self.replies.value = answers_html(answers(self.state))

    def mark(self) -> None:
        """Mark the picked token, layer and expert on the maps."""
        state, layers = self.state, self.config.moe_layers
        row = layers.index(state.routing_layer) if state.routing_layer in layers else -1
        self.routing.marked = [state.expert, state.token]
        self.by_layer.marked = self.load.marked = [row, state.expert]
        self.mark_reply()

    def pick_served(self, expert: int, token: int) -> None:
        """Pick a token, and the expert at which it was clicked."""
        if self.state.current is not None and min(expert, token) >= 0:
            self.state.token, self.state.expert = token, expert

    def pick_expert(self, row: int, expert: int) -> None:
        """Pick an expert of a layer, by the layer's row."""
        if self.state.current is not None and min(row, expert) >= 0:
            self.state.routing_layer = self.config.moe_layers[row]
            self.state.expert = expert

    def _arrange(self, name: str) -> w.VBox:
        wrap = w.Layout(flex_flow="row wrap", align_items="center", grid_gap="6px 10px")
        buttons = w.Box([self.switch, self.write], layout=wrap)
        beside = w.Box([self.compare, self.other_question, self.off, self.all_on], layout=wrap)
        asked = card("Conversation", "click a token", self.transcript, grows=True)
        token = card("This token in every layer", "click an expert", self.by_layer, self.choice)
        expert = card("This expert", "and whom it serves", self.served, buttons, self.writing)
        experts = "each column: the experts of a token; click a cell"
        return page(
            heading(name, self.config, title="Qwen3 routing explorer"),
            self.controls.box(),
            beside,
            self.alert,
            columns([asked], w.VBox([token, expert], layout=w.Layout(grid_gap=GAP))),
            card("Expert routing", experts, self.routing, pickers=[self.pickers.routing_layer]),
            card("Replies", "side by side where something is compared", self.replies),
            card("Load", "each row: a layer; click an expert", self.load, self.note),
        )
