"""Widgets of the routing explorer: panes that follow the state. Computes nothing."""

import html
from collections.abc import Callable, Sequence

import ipywidgets as w

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.layout import GAP, card, columns, heading, page
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.explorers.chat_compute import routing_heatmap
from qwen3lab.widgets.explorers.controls import WIDE, Pickers
from qwen3lab.widgets.explorers.replies import answers_html
from qwen3lab.widgets.explorers.reply_panel import WAITING, ReplyPanel
from qwen3lab.widgets.explorers.routing_compute import (
    chips_html,
    comparison_note,
    experts_by_layer_heatmap,
    load_heatmap,
    routed_summary,
    routed_tokens,
    router_notes,
)
from qwen3lab.widgets.explorers.routing_state import ALL_ON, COMPARE, RoutingState, answers

NO_TOKEN = "Click a token to see its experts in every layer."
NO_EXPERT = "Click an expert in a plot to see the tokens routed to it."


class RoutingPanel(ReplyPanel):
    """Controls and reply, with the experts of each token, one expert, and the load."""

    state: RoutingState

    def __init__(
        self, name: str, config: Qwen3Config, state: RoutingState, examples: Sequence[str]
    ) -> None:
        super().__init__(config, state, examples)
        self.corpus_tokens: Callable[[int, int], str] = lambda layer, expert: ""
        self.pickers = Pickers(state, config)
        self.bound_parts.append(self.pickers)
        self.routing = Canvas(height=max(220, min(520, 110 + 14 * config.n_experts)))
        layers = len(config.moe_layers)
        self.by_layer = Canvas(height=max(180, min(520, 110 + 18 * layers)))
        self.load = Canvas(height=max(180, min(520, 110 + 18 * layers)))
        self._make_controls()
        self._make_texts()
        self.root = self._arrange(name)
        self._follow()
        self.draw_run()

    def connect(
        self, *, switch: Callable[[], None], all_on: Callable[[], None], write: Callable[[], None]
    ) -> None:
        """Set the callbacks of the buttons."""
        self.switch.on_click(lambda _: switch())
        self.all_on.on_click(lambda _: all_on())
        self.write.on_click(lambda _: write())

    def _make_controls(self) -> None:
        self.compare = w.Dropdown(
            options=COMPARE,
            description="compare with",
            tooltip="A second run to compare with: the next Run does both",
            style=WIDE,
            layout=w.Layout(width="290px"),
        )
        self.other_question = w.Text(
            description="other question",
            tooltip="The question of the second run",
            style=WIDE,
            layout=w.Layout(flex="1 1 240px", width="auto"),
        )
        self.bindings.bind("compare", self.compare)
        self.bindings.bind("other_question", self.other_question)
        self.switch = w.Button(
            icon="power-off",
            tooltip="Switch this expert off or on, and ask the same question again",
            layout=w.Layout(width="230px"),
        )
        self.write = w.Button(
            description="Direct logit effect",
            icon="pencil",
            tooltip="The next tokens that its mean output in this run makes more or less likely",
            layout=w.Layout(width="190px"),
        )
        self.all_on = w.Button(
            description="All experts on",
            tooltip="Switch all experts on, and ask the same question again",
            layout=w.Layout(width="150px", display="none"),
        )

    def _make_texts(self) -> None:
        self.choice, self.routed, self.logit_effect = w.HTML(), w.HTML(), w.HTML()
        self.replies, self.note, self.off = w.HTML(), w.HTML(), w.HTML()

    def _follow(self) -> None:
        watch = self.bindings.watch
        watch(lambda _: self.draw_run(), ["chat"])
        watch(lambda _: self.draw_routing(), ["routing_layer"])
        watch(lambda _: self.draw_token(), ["token", "routing_layer"])
        watch(lambda _: self.draw_expert(), ["expert", "routing_layer", "off", "status"])
        watch(lambda _: self.enable(), ["compare"])
        self.enable()
        on_pick(self.routing, "selected", lambda cell: self.pick_token_and_expert(*cell))
        on_pick(self.by_layer, "selected", lambda cell: self.pick_expert(*cell))
        on_pick(self.load, "selected", lambda cell: self.pick_expert(*cell))

    def enable(self) -> None:
        """Show the box for the other question only if it is used."""
        self.other_question.layout.display = "" if self.state.compare == COMPARE[2] else "none"

    def draw_run(self) -> None:
        """Draw everything that depends on the run."""
        for draw in (self.draw_routing, self.draw_token, self.draw_expert, self.draw_load):
            draw()
        self.draw_answers()

    @shows_drawing_errors
    def draw_routing(self) -> None:
        """Draw the routing of the picked layer."""
        chat = self.state.chat
        with self.lock:
            if chat is None or not self.config.is_moe:
                self.routing.show_nothing(WAITING)
            else:
                self.routing.show(routing_heatmap(chat.recording, self.state.routing_layer))
            self.mark()

    @shows_drawing_errors
    def draw_token(self) -> None:
        """Draw the picked token's experts in every layer, with router entropy and margin."""
        recording, token = self.state.recording, self.state.token
        with self.lock:
            if recording is None or not 0 <= token < len(recording):
                self.by_layer.show_nothing(NO_TOKEN)
                self.choice.value = ""
                return
            self.by_layer.show(experts_by_layer_heatmap(recording, token))
            notes = router_notes(recording, token, self.state.routing_layer)
            lines = "".join(f"<div>{html.escape(note)}</div>" for note in notes)
            self.choice.value = f'<div class="q3-notes">{lines}</div>'
            self.mark()

    @shows_drawing_errors
    def draw_expert(self) -> None:
        """Show the tokens routed to the picked expert, in this run and in the corpus."""
        state, recording = self.state, self.state.recording
        layer, expert = state.routing_layer, state.expert
        with self.lock:
            self.logit_effect.value = ""
            self._enable_switches()
            if recording is None or expert < 0:
                self.routed.value = f'<span class="q3-hint">{NO_EXPERT}</span>'
                return
            chips = chips_html(routed_tokens(recording, layer, expert))
            self.routed.value = (
                f"<div><b>Expert {expert} of layer {layer}</b>: "
                f"{routed_summary(recording, layer, expert)}</div>"
                f'<div class="q3-hint">in this run, with routing weight</div>{chips}'
                f'<div class="q3-hint">in the corpus, with share of occurrences routed here</div>'
                f"{self.corpus_tokens(layer, expert)}"
            )
            self.mark()

    def _enable_switches(self) -> None:
        """Set labels and states of the buttons for the picked expert."""
        state = self.state
        has_expert = state.recording is not None and state.expert >= 0
        self.switch.disabled = self.write.disabled = state.status != "idle" or not has_expert
        is_off = (state.routing_layer, state.expert) in state.off
        self.switch.description = f"Switch {'on' if is_off else 'off'} and ask again"
        self.switch.button_style = "success" if is_off else "warning"
        self.all_on.layout.display = "" if state.off else "none"
        disabled = ", ".join(f"expert {expert} of layer {layer}" for layer, expert in state.off)
        self.off.value = f'<span class="q3-hint">{disabled and "off: " + disabled}</span>'

    @shows_drawing_errors
    def draw_load(self) -> None:
        """Draw the load of every expert, or its difference from the run compared with."""
        recording, other = self.state.recording, self.state.other or self.state.baseline
        with self.lock:
            if recording is None:
                self.load.show_nothing(WAITING)
                return
            name = self.state.other_name or ALL_ON
            reference = other.recording if other is not None else None
            self.load.show(load_heatmap(recording, reference, name))
            note = comparison_note(recording, reference) if reference is not None else ""
            self.note.value = f'<span class="q3-hint">{html.escape(note)}</span>'

    @shows_drawing_errors
    def draw_answers(self) -> None:
        """Show the replies side by side."""
        with self.lock:
            self.replies.value = answers_html(answers(self.state))

    def mark(self) -> None:
        """Mark the picked token, layer and expert on the maps."""
        state, layers = self.state, self.config.moe_layers
        row = layers.index(state.routing_layer) if state.routing_layer in layers else -1
        self.routing.marked = [state.expert, state.token]
        self.by_layer.marked = self.load.marked = [row, state.expert]
        self.mark_reply()

    def pick_token_and_expert(self, expert: int, token: int) -> None:
        """Pick the token and the expert of a clicked cell."""
        if self.state.current is not None and min(expert, token) >= 0:
            self.state.token, self.state.expert = token, expert

    def pick_expert(self, row: int, expert: int) -> None:
        """Pick an expert of a layer, given the row of the layer."""
        if self.state.current is not None and min(row, expert) >= 0:
            self.state.routing_layer = self.config.moe_layers[row]
            self.state.expert = expert

    def _arrange(self, name: str) -> w.VBox:
        wrap = w.Layout(flex_flow="row wrap", align_items="center", grid_gap="6px 10px")
        buttons = w.Box([self.switch, self.write], layout=wrap)
        comparison = w.Box([self.compare, self.other_question, self.off, self.all_on], layout=wrap)
        conversation = card("Conversation", "click a token", self.transcript, grows=True)
        token = card(
            "Selected token", "its experts in every layer; click one", self.by_layer, self.choice
        )
        expert = card(
            "Selected expert", "the tokens routed to it", self.routed, buttons, self.logit_effect
        )
        hint = "each column: the experts that one token is routed to; click a cell"
        return page(
            heading(name, self.config, title="Qwen3 routing explorer"),
            self.controls.box(),
            comparison,
            self.alert,
            columns([conversation], w.VBox([token, expert], layout=w.Layout(grid_gap=GAP))),
            card("Expert routing", hint, self.routing, pickers=[self.pickers.routing_layer]),
            card("Replies", "of this run and of the run compared with", self.replies),
            card("Load", "each row: one layer; click an expert", self.load, self.note),
        )
