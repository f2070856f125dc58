"""The text view: the conversation's tokens, shaded by a quantity that is chosen."""

import html
from collections.abc import Sequence

import ipywidgets as w
import plotly.graph_objects as go

from qwen3lab import figures
from qwen3lab.analysis.uncertainty import uncertainty
from qwen3lab.figures.theme import STOP_COLOUR
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.find_box import FindBox
from qwen3lab.widgets.components.number_picker import NumberPicker
from qwen3lab.widgets.components.plot import Plot
from qwen3lab.widgets.components.textview import TextView
from qwen3lab.widgets.explorers.attention_compute import text_page
from qwen3lab.widgets.explorers.chat_compute import token_parts
from qwen3lab.widgets.explorers.controls import WIDE, Pickers
from qwen3lab.widgets.explorers.text_compute import Shades
from qwen3lab.widgets.workbench.keep.notes import token_notes_of
from qwen3lab.widgets.workbench.shading import is_of_token, shades_of, what_is_shaded
from qwen3lab.widgets.workbench.state import (
    EXPERT_WEIGHT,
    QUANTITIES,
)
from qwen3lab.widgets.workbench.views.view import View, pane, row, show_only

CURVE_HEIGHT = 210


class ShadedText(View):
    """The tokens of the conversation, shaded by surprisal, entropy, attention or an expert."""

    name, title = "text", later("Text")

    def build(self) -> Sequence[w.Widget]:
        """Make the menu of quantities, the pickers that they need, and the text."""
        offered = QUANTITIES if self.config.is_moe else QUANTITIES[:-1]
        self.quantity = w.Dropdown(
            options=[(tr(each), each) for each in offered],
            description=tr("shade by"),
            tooltip=tr("What the shade of a token shows"),
            style=WIDE,
            layout=w.Layout(width="290px"),
        )
        self.bindings.bind("quantity", self.quantity)
        self.pickers = Pickers(self.state, self.config, self.follow)
        self.expert = NumberPicker(
            tr("expert"),
            range(-1, max(1, self.config.n_experts)),
            tr("Expert of the layer; -1 for none"),
        )
        self.bindings.bind("expert", self.expert, follow=self.follow)
        self.parts = [self.pickers]
        self._make_finders()
        self.colours = self.follow_colours()
        self.curve = w.ToggleButton(
            description=tr("curves"),
            icon="line-chart",
            tooltip=tr("Show entropy and surprisal as curves below the text"),
            layout=w.Layout(width="90px"),
        )
        self.bindings.bind("curve", self.curve)
        self._shown: tuple[object, ...] = ()  # What the shades depend on that are drawn.
        self.text = TextView()
        self.text.add_class("q3-fill")
        self.plot: Plot | None = None  # Made when it is shown: its library has 5 MB.
        self.curves = w.VBox(layout=w.Layout(display="none", flex="0 0 auto"))
        self.text.on_token(self.point_at)
        self.text.on_pick(self.pick_token)
        self.follow(self.draw_text, ["recording"])
        self.follow(self.mark_notes, ["recording", "notes"])
        self.follow(self.turn_page, ["token"])
        self.follow(self.draw_controls, ["quantity", "curve"])
        self.follow(
            self.shade,
            [
                "recording",
                "token",
                "quantity",
                "layer",
                "head",
                "routing_layer",
                "expert",
                "colours",
            ],
        )
        self.follow(self.draw_curves, ["recording", "token", "curve"])
        tools = row(
            self.quantity,
            self.largest,
            self.pickers.layer,
            self.pickers.head,
            self.pickers.routing_layer,
            self.expert,
            self.colours,
            self.curve,
            self.jumped,
        )
        hint = tr("click a token to pick it in every view")
        return [tools, pane(tr("Text"), hint, self.text, self.curves, tools=[self.box])]

    def _make_finders(self) -> None:
        """Make the search box and the button that goes through the largest values."""
        self.box = FindBox()
        self.box.observe(lambda change: self.state.set_trait("search", change["new"]), "text")
        self.box.on_go(self.bench.find.go)
        self.largest = w.Button(
            description=tr("largest"),
            icon="arrow-up",
            tooltip=tr("Pick the token with the largest value; again, the next largest one"),
            layout=w.Layout(width="90px"),
        )
        self.largest.on_click(lambda _: self.bench.find.jump())
        self.jumped = w.HTML()
        self.follow(self.draw_hits, ["search", "hits", "hit"])
        self.follow(self.draw_jump, ["jumped"])

    def draw_hits(self) -> None:
        """Mark what the search has found, and count it."""
        state = self.state
        self.text.hits = [list(hit) for hit in state.hits]
        self.box.text = state.search
        self.box.found = {"hit": state.hit, "of": len(state.hits)}

    def draw_jump(self) -> None:
        """Say which value was picked."""
        said = html.escape(self.state.jumped)
        self.jumped.value = f'<span class="q3-jumped" role="status">{said}</span>'

    @property
    def is_of_token(self) -> bool:
        """True if the quantity belongs to one token: its attention weights."""
        return is_of_token(self.state)

    def draw_controls(self) -> None:
        """Show the pickers that the quantity needs."""
        show_only(self.is_of_token, self.pickers.layer, self.pickers.head)
        is_expert = self.state.quantity == EXPERT_WEIGHT
        show_only(is_expert, self.pickers.routing_layer, self.expert)

    @shows_drawing_errors
    def draw_text(self) -> None:
        """Show the tokens."""
        recording = self.state.recording
        if recording is None:
            self.text.show([], [], 0)
            return
        self._shown = ()
        first, end = self._page(recording)
        parts = token_parts(recording)
        self.text.show(recording.tokens[first:end], parts[first:end], first)

    def mark_notes(self) -> None:
        """Mark the tokens that have a note."""
        self.text.notes = token_notes_of(self.state.notes, self.state.recording)

    def turn_page(self) -> None:
        """Show the page of the picked token, if it is another one."""
        recording = self.state.shown
        if recording is None or self.state.token < 0:
            return
        if self._page(recording)[0] != self.text.shown[0]:
            self.draw_text()

    def _page(self, recording: Recording) -> tuple[int, int]:
        return text_page(recording, self.state.token)

    @shows_drawing_errors
    def shade(self) -> None:
        """Shade the tokens by the quantity, and outline the picked one."""
        recording = self.state.shown
        self.text.picked = self.state.token
        if recording is None:
            self.text.shade(None, title="")
            self._shown = ()
            return
        key = self._key(recording)
        if key != self._shown:
            self._shade(shades_of(recording, self.state, self.state.token))
            self._shown = key

    def _key(self, recording: Recording) -> tuple[object, ...]:
        """What the shades depend on: the logits of a recording are computed once."""
        shown = (self.state.colours, self.text.shown[0])
        key = (id(recording), *what_is_shaded(self.state), *shown)
        return (*key, self.state.token) if self.is_of_token else key

    def point_at(self, token: int) -> None:
        """Shade by the weights of the token under the pointer; of the picked one for -1."""
        recording = self.state.shown
        if recording is None or not self.is_of_token:
            return
        token = token if 0 <= token < len(recording) else self.state.token
        with self.lock:
            self._shade(shades_of(recording, self.state, token))
            self._shown = ()

    def _shade(self, shades: Shades | str) -> None:
        if isinstance(shades, str):
            self.text.shade(None, title=shades, follows=self.is_of_token)
            return
        first, end = self.text.shown
        self.text.shade(
            shades.values[first:end],
            title=shades.title,
            scale=shades.scale(self.state.colours),
            nothing=shades.nothing,
            token=shades.token,
            follows=self.is_of_token,
        )

    @shows_drawing_errors
    def draw_curves(self) -> None:
        """Draw entropy and surprisal of the run, with a line at the picked token."""
        chat = self.state.current
        show_only(self.state.curve and chat is not None, self.curves)
        if not self.state.curve or chat is None:
            return
        figure = _fitted(figures.uncertainty(uncertainty(chat)))
        if self.state.token >= 0:
            figure.add_vline(self.state.token, line_color=STOP_COLOUR, line_width=1)
        if self.plot is None:
            self.plot = Plot(figure)
            self.plot.on_click(lambda position: self.pick_token(round(position)))
            self.curves.children = (self.plot,)
        self.plot.show(figure, kind=f"run {id(chat)}")


def _fitted(figure: go.Figure) -> go.Figure:
    """The figure without title and x-axis title: the pane has a heading and little space.

    A click anywhere picks the nearest token: zoomed in, tokens are far apart.
    """
    figure.update_xaxes(title=None)
    figure.update_layout(hoverdistance=-1)
    margin = {"l": 52, "r": 12, "t": 24, "b": 20}
    return figure.update_layout(height=CURVE_HEIGHT, title=None, margin=margin)
