"""Widgets of the explorer: panes that follow the state. Computes nothing."""

import html

import ipywidgets as w
import plotly.graph_objects as go

from qwen3lab import figures
from qwen3lab.analysis.uncertainty import uncertainty
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.figures.theme import STOP_COLOUR, empty_figure
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.layout import card, columns, heading, page
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.components.plot import Plot
from qwen3lab.widgets.explorers.chat_compute import attention_heatmap, routing_heatmap, token_notes
from qwen3lab.widgets.explorers.controls import Pickers
from qwen3lab.widgets.explorers.reply_panel import WAITING, ReplyPanel
from qwen3lab.widgets.explorers.state import ExplorerState

DENSE = "This model is dense: it has no experts, so there is no routing to show."
NO_TOKEN_PICKED = "Click a token in the conversation or in a plot to see its values here."


class ExplorerPanel(ReplyPanel):
    """Controls and reply, with the attention, routing and entropy of the run."""

    def __init__(
        self, name: str, config: Qwen3Config, state: ExplorerState, examples: tuple[str, ...]
    ) -> None:
        super().__init__(config, state, examples)
        self.pickers = Pickers(state, config)
        self.bound_parts.append(self.pickers)
        self.attention = Canvas(height=570)
        self.routing = Canvas(height=max(200, min(520, 110 + 14 * config.n_experts)))
        self.entropy = Plot(_fitted(empty_figure(WAITING)))
        self.notes = w.HTML()
        self.root = self._arrange(name)
        self._follow()
        for draw in (self.draw_maps, self.draw_entropy, self.draw_notes, self.draw_marks):
            draw()

    def _follow(self) -> None:
        watch = self.bindings.watch
        watch(lambda _: self.draw_maps(), ["chat"])
        watch(lambda _: self.draw_entropy(), ["chat", "token"])
        watch(lambda _: self.pick_attention(), ["layer", "head"])
        watch(lambda _: self.pick_routing(), ["routing_layer"])
        watch(lambda _: self.draw_marks(), ["chat", "token"])
        watch(lambda _: self.draw_notes(), ["chat", "token", "layer", "head", "routing_layer"])
        watch(lambda _: self.draw_age(), ["status"])
        on_pick(self.attention, "selected", lambda cell: self.pick_token(cell[0]))
        on_pick(self.routing, "selected", lambda cell: self.pick_token(cell[1]))
        self.entropy.on_click(lambda position: self.pick_token(round(position)))

    def draw_maps(self) -> None:
        """Draw the attention map and the routing map of the last run."""
        self.draw_attention()
        self.draw_routing()

    def pick_attention(self) -> None:
        """Draw the attention of another head, from the recording."""
        self.state.drawing_error = ""
        self.draw_attention()

    def pick_routing(self) -> None:
        """Draw the routing of another layer, from the recording."""
        self.state.drawing_error = ""
        self.draw_routing()

    @shows_drawing_errors
    def draw_attention(self) -> None:
        """Draw the attention of the picked layer and head."""
        chat = self.state.chat
        if chat is None:
            self.attention.show_nothing(WAITING)
            return
        with self.lock:
            self.attention.show(
                attention_heatmap(chat.recording, self.state.layer, self.state.head)
            )

    @shows_drawing_errors
    def draw_routing(self) -> None:
        """Draw the routing of the picked layer."""
        chat = self.state.chat
        if not self.config.is_moe or chat is None:
            self.routing.show_nothing(WAITING if self.config.is_moe else DENSE)
            return
        with self.lock:
            self.routing.show(routing_heatmap(chat.recording, self.state.routing_layer))

    @shows_drawing_errors
    def draw_entropy(self) -> None:
        """Draw entropy and surprisal of the last run, with a line at the picked token."""
        chat = self.state.chat
        if chat is None:
            return
        figure = _fitted(figures.uncertainty(uncertainty(chat)))
        if self.state.token >= 0:
            figure.add_vline(self.state.token, line_color=STOP_COLOUR, line_width=1)
        with self.lock:
            self.entropy.show(figure, kind=f"run {id(chat)}")

    @shows_drawing_errors
    def draw_marks(self) -> None:
        """Mark the picked token in the reply and on both maps."""
        self.attention.marked = [self.state.token, -1]
        self.routing.marked = [-1, self.state.token]
        self.mark_reply()

    @shows_drawing_errors
    def draw_notes(self) -> None:
        """Show the picked token's values as text."""
        chat = self.state.current
        notes = token_notes(chat, self.state) if chat is not None else []
        lines = "".join(f"<div>{html.escape(note)}</div>" for note in notes or [NO_TOKEN_PICKED])
        self.notes.value = f'<div class="q3-notes">{lines}</div>'

    def draw_age(self) -> None:
        """Fade the plots of the previous run while a new one is running."""
        is_old = self.state.status != "idle" and self.state.chat is not None
        for widget in (self.attention, self.routing, self.entropy):
            (widget.add_class if is_old else widget.remove_class)("q3-old")

    def pick_token(self, token: int) -> None:
        """Pick a token of the conversation."""
        if token >= 0 and self.state.current is not None:
            self.state.token = token

    def _arrange(self, name: str) -> w.VBox:
        layer = [self.pickers.routing_layer] if self.config.is_moe else []
        hint = "click a token to mark it in every plot"
        conversation = card("Conversation", hint, self.transcript, grows=True)
        uncertainty_card = card(
            "Uncertainty", "entropy and surprisal of each generated token", self.entropy
        )
        attention = card(
            "Attention",
            "each row: the attention weights of one query token",
            self.attention,
            self.notes,
            pickers=[self.pickers.layer, self.pickers.head],
        )
        experts = "each column: the experts that one token is routed to"
        return page(
            heading(name, self.config),
            self.controls.box(),
            self.alert,
            columns([conversation, uncertainty_card], attention),
            card("Expert routing", experts, self.routing, pickers=layer),
        )


def _fitted(figure: go.Figure) -> go.Figure:
    """The figure without title and x-axis title: the card has a heading and little space."""
    figure.update_xaxes(title=None)
    return figure.update_layout(height=250, title=None, margin={"l": 52, "r": 12, "t": 24, "b": 20})
