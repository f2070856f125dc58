"""The explorer on the screen: panes that follow the state. No computation, no model."""

import html

import ipywidgets as w
import plotly.graph_objects as go

from qwen3lab import figures
from qwen3lab.analysis.uncertainty import uncertainty
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.figures.theme import STOP_COLOUR, empty_figure
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.error_display import says_undrawn
from qwen3lab.widgets.components.layout import card, columns, heading, page
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.components.plot import Plot
from qwen3lab.widgets.explorers.chat_compute import attention_heatmap, routing_heatmap, token_notes
from qwen3lab.widgets.explorers.controls import Pickers
from qwen3lab.widgets.explorers.reply_panel import ReplyPanel
from qwen3lab.widgets.explorers.state import ExplorerState

DENSE = "This model is dense: it has no experts, so there is no routing to show."
NO_PICK = "Click a token in the conversation or in a plot: what the run says of it stands here."
WAITING = "The plot appears when the first run has ended."


class ExplorerPanel(ReplyPanel):
    """Controls and reply, with attention, routing and entropy of the run."""

    def __init__(
        self, name: str, config: Qwen3Config, state: ExplorerState, examples: tuple[str, ...]
    ) -> None:
        super().__init__(config, state, examples)
        self.pickers = Pickers(state, config)
        self.held.append(self.pickers)
        self.attention = Canvas(height=570)
        self.routing = Canvas(height=max(200, min(520, 110 + 14 * config.n_experts)))
        self.entropy = Plot(_fitted(empty_figure(WAITING)))
        self.notes = w.HTML()
        self.root = self._arrange(name)
        self._follow()
        for draw in (self.draw_maps, self.draw_entropy, self.draw_notes, self.draw_marks):
            draw()

    def _follow(self) -> None:
        watch = self.ties.watch
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
        """Draw both maps of the last run."""
        self.draw_attention()
        self.draw_routing()

    def pick_attention(self) -> None:
        """Draw another head's map, from the recording."""
        self.state.undrawn = ""
        self.draw_attention()

    def pick_routing(self) -> None:
        """Draw another layer's routing, from the recording."""
        self.state.undrawn = ""
        self.draw_routing()

    @says_undrawn
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

    @says_undrawn
    def draw_routing(self) -> None:
        """Draw the routing of the picked layer."""
        chat = self.state.chat
        if not self.config.is_moe or chat is None:
            self.routing.show_nothing(WAITING if self.config.is_moe else DENSE)
            return
        with self.lock:
            self.routing.show(routing_heatmap(chat.recording, self.state.routing_layer))

    @says_undrawn
    def draw_entropy(self) -> None:
        """Draw entropy and surprisal of the last run, with the picked token's line."""
        chat = self.state.chat
        if chat is None:
            return
        figure = _fitted(figures.uncertainty(uncertainty(chat)))
        if self.state.token >= 0:
            figure.add_vline(self.state.token, line_color=STOP_COLOUR, line_width=1)
        with self.lock:
            self.entropy.show(figure, kind=f"run {id(chat)}")

    @says_undrawn
    def draw_marks(self) -> None:
        """Mark the picked token in the reply and on the maps."""
        self.attention.marked = [self.state.token, -1]
        self.routing.marked = [-1, self.state.token]
        self.mark_reply()

    @says_undrawn
    def draw_notes(self) -> None:
        """Say in words what the plots show of the picked token."""
        chat = self.state.current
        notes = token_notes(chat, self.state) if chat is not None else []
        lines = "".join(f"<div>{html.escape(note)}</div>" for note in notes or [NO_PICK])
        self.notes.value = f'<div class="q3-notes">{lines}</div>'

    def draw_age(self) -> None:
        """Pale the plots of the run before while a new one goes on."""
        is_old = self.state.status != "idle" and self.state.chat is not None
        for widget in (self.attention, self.routing, self.entropy):
            (widget.add_class if is_old else widget.remove_class)("q3-old")

    def pick_token(self, token: int) -> None:
        """Pick a token of the conversation."""
        if token >= 0 and self.state.current is not None:
            self.state.token = token

    def _arrange(self, name: str) -> w.VBox:
        layer = [self.pickers.routing_layer] if self.config.is_moe else []
        about = "click a token: it is marked in every plot"
        asked = card("Conversation", about, self.transcript, grows=True)
        sure = card("Uncertainty", "how open each token was", self.entropy)
        pattern = card(
            "Attention",
            "each row: where a token looks",
            self.attention,
            self.notes,
            pickers=[self.pickers.layer, self.pickers.head],
        )
        experts = "each column: the experts of a token"
        return page(
            heading(name, self.config),
            self.controls.box(),
            self.alert,
            columns([asked, sure], pattern),
            card("Expert routing", experts, self.routing, pickers=layer),
        )


def _fitted(figure: go.Figure) -> go.Figure:
    """The figure for a card: that says what is drawn, and room is short."""
    figure.update_xaxes(title=None)
    return figure.update_layout(height=250, title=None, margin={"l": 52, "r": 12, "t": 24, "b": 20})
