"""Widgets of the why explorer: panes that follow the state. Computes nothing."""

import html
from collections.abc import Callable, Sequence

import ipywidgets as w
import plotly.graph_objects as go

from qwen3lab import figures
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.figures.theme import STOP_COLOUR, empty_figure, traces
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.layout import Alert, card, columns, heading, page
from qwen3lab.widgets.components.number_picker import NumberPicker
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.components.plot import Plot
from qwen3lab.widgets.explorers.controls import WIDE
from qwen3lab.widgets.explorers.replies import answers_html
from qwen3lab.widgets.explorers.reply_panel import ReplyPanel
from qwen3lab.widgets.explorers.why_compute import (
    cell_of,
    effects_heatmap,
    lens_heatmap,
    lens_notes,
    part_at,
    part_called,
    part_label,
)
from qwen3lab.widgets.explorers.why_part import PartCard, button
from qwen3lab.widgets.explorers.why_state import (
    EFFECTS,
    EXPERTS,
    LOGIT_LENS,
    OTHER_QUESTION,
    WhyState,
)

NO_TOKEN = "Click a token of the reply to see why it was written."
NO_EFFECTS = "Press Measure to run the model again without each part."
N_BARS = 10
MEASURING = "Running the model again, layer by layer …"


class WhyPanel(ReplyPanel):
    """Controls and reply, with the lens, the attribution, the map of effects, and both replies."""

    state: WhyState

    def __init__(
        self,
        name: str,
        config: Qwen3Config,
        state: WhyState,
        examples: Sequence[str],
        lenses: Sequence[str] = (LOGIT_LENS,),
    ) -> None:
        super().__init__(config, state, examples)
        self.lens_names = lenses
        height = max(180, min(420, 110 + 18 * config.n_layers))
        self.lens, self.effects = Canvas(height=height), Canvas(height=height)
        self.part = PartCard(state, config, self.lock)
        self.bound_parts.append(self.part)
        self.parts = Plot(_fitted(empty_figure(NO_TOKEN)))
        self.notes, self.versus, self.replies = w.HTML(), w.HTML(), w.HTML()
        self.problem = Alert()
        self._make_controls()
        self._make_link()
        self.root = self._arrange(name)
        self._follow()
        for draw in (self.draw_lens, self.draw_parts, self.draw_effects, self.draw_replies):
            draw()
        self.draw_problem()

    def connect(self, *, measure: Callable[[], None], close_link: Callable[[], None]) -> None:
        """Set the callbacks of the buttons outside of the picked part's card."""
        self.measure.on_click(lambda _: measure())
        self.close_link.on_click(lambda _: close_link())

    def show_link(self, title: str, root: w.Widget | None) -> None:
        """Show another explorer below, with a title; hide it if it is None."""
        self.link_title.value = f'<span class="q3-heading">{html.escape(title)}</span>'
        self.link_body.children = () if root is None else (root,)
        self.link.layout.display = "none" if root is None else ""
        if root is not None:
            self.close_link.focus()  # Scrolls it into view.

    def _make_link(self) -> None:
        self.link_title, self.link_body = w.HTML(), w.VBox()
        self.close_link = button("Close", "Back to the why explorer", "90px")
        row = w.Layout(align_items="center", justify_content="space-between")
        head = w.Box([self.link_title, self.close_link], layout=row)
        self.link = w.VBox([head, self.link_body], layout=w.Layout(display="none"))
        self.link.add_class("q3-link")
        self.close_link.add_class("q3-back")

    def _make_controls(self) -> None:
        offered = [each for each in EFFECTS if self.config.is_moe or each != EXPERTS]
        self.effect = w.Dropdown(
            options=[(each, each) for each in offered],
            description="run again",
            tooltip="What is changed in the run, one part after another",
            style=WIDE,
            layout=w.Layout(width="345px"),
        )
        self.which_lens = w.Dropdown(
            options=[(each, each) for each in self.lens_names],
            tooltip="What reads the layers; a tuned and a Jacobian lens ship for embedded models",
            layout=w.Layout(width="130px", margin="2px 10px 2px 2px"),
        )
        self.other_question = w.Text(
            placeholder="A question with as many tokens, such as other numbers",
            tooltip="Its residual stream is put in place, one layer and token after another",
            layout=w.Layout(flex="1 1 240px", width="auto"),
        )
        self.other_token = w.Text(
            placeholder="runner-up",
            description="rather than",
            tooltip="The token that the written one is compared with; empty: the most probable one",
            continuous_update=False,
            style=WIDE,
            layout=w.Layout(width="190px"),
        )
        self.layer = NumberPicker("layer", range(self.config.n_layers), "Layer of the lens")
        self.measure = button("Measure", "Run the model again without each part", "110px")

    def _follow(self) -> None:
        for name in ("effect", "other_question", "other_token", "layer"):
            self.bindings.bind(name, getattr(self, name))
        self.bindings.bind("lens", self.which_lens)
        watch = self.bindings.watch
        watch(lambda _: self.draw_lens(), ["explained"])
        watch(lambda _: self.draw_parts(), ["explained", "part"])
        watch(lambda _: self.draw_problem(), ["problem"])
        watch(lambda _: self.draw_effects(), ["effects", "explained", "measuring"])
        watch(lambda _: self.draw_notes(), ["explained", "layer"])
        watch(lambda _: self.draw_marks(), ["explained", "token", "layer", "part", "effects"])
        watch(lambda _: self.draw_replies(), ["chat", "edited"])
        watch(lambda _: self.enable(), ["effect", "explained", "status", "measuring"])
        on_pick(self.lens, "selected", lambda cell: self.pick_lens(*cell))
        on_pick(self.effects, "selected", lambda cell: self.pick_effect(*cell))
        self.parts.on_name(self.pick_bar)
        self.enable()

    def enable(self) -> None:
        """Disable the controls that have no effect now."""
        state = self.state
        busy = state.status != "idle" or state.explained is None
        self.measure.disabled = busy or state.measuring
        hidden = "" if state.effect == OTHER_QUESTION else "none"
        self.other_question.layout.display = hidden

    @shows_drawing_errors
    def draw_lens(self) -> None:
        """Draw the probability of the explained token at each layer and token."""
        found = self.state.explained
        with self.lock:
            if found is None:
                self.lens.show_nothing(NO_TOKEN)
            else:
                self.lens.show(lens_heatmap(found))

    @shows_drawing_errors
    def draw_notes(self) -> None:
        """Say what the picked layer predicts in place of the explained token."""
        found = self.state.explained
        lines = lens_notes(found, self.state.layer) if found is not None else []
        shown = "".join(f"<div>{html.escape(line)}</div>" for line in lines)
        self.notes.value = f'<div class="q3-notes">{shown}</div>' if shown else ""

    @shows_drawing_errors
    def draw_parts(self) -> None:
        """Draw what each part adds to the logit difference."""
        found = self.state.explained
        with self.lock:
            if found is None:
                self.parts.show(_fitted(empty_figure(NO_TOKEN)))
                self.versus.value = ""
                return
            figure = _fitted(figures.attribution_waterfall(found.parts, most=N_BARS))
            if self.state.part:
                _mark_bar(figure, part_label(self.state.part))
            self.parts.show(figure)
            text = html.escape(f"{found.parts.label} = {found.parts.total:.2f}")
            self.versus.value = f'<span class="q3-hint">{text}; heads, experts: layer.number</span>'

    def draw_problem(self) -> None:
        """Show an error below the panes that caused it; hide the box without one."""
        self.problem.say(self.state.problem)

    @shows_drawing_errors
    def draw_effects(self) -> None:
        """Draw the effect of each change, as far as it is measured."""
        state = self.state
        with self.lock:
            if state.current is not None and state.effects is not None:
                self.effects.show(effects_heatmap(state.effects, state.current))
            elif state.explained is None:
                self.effects.show_nothing(NO_TOKEN)
            else:
                self.effects.show_nothing(MEASURING if state.measuring else NO_EFFECTS)

    @shows_drawing_errors
    def draw_replies(self) -> None:
        """Show the reply, and beside it the one with a part changed."""
        chat, edited = self.state.current, self.state.edited
        shown = [] if chat is None else [("as it is", chat)]
        if chat is not None and edited is not None:
            shown.append((self.state.edited_name, edited))
        with self.lock:
            self.replies.value = answers_html(shown)

    def draw_marks(self) -> None:
        """Mark the explained token and the picked layer and part."""
        state, found = self.state, self.state.explained
        self.lens.marked = [state.layer, state.token - 1] if found is not None else [-1, -1]
        effects = state.effects
        cell = cell_of(effects, state.part) if effects is not None and state.part else (-1, -1)
        self.effects.marked = list(cell)
        self.mark_reply()

    def pick_lens(self, row: int, position: int) -> None:
        """Pick the layer of a clicked cell of the lens, and explain the token after its token."""
        if self.state.explained is not None and row >= 0 and position >= 0:
            self.state.layer = row
            self.state.token = position + 1

    def pick_bar(self, name: str) -> None:
        """Pick the part of a clicked bar of the attribution."""
        found = self.state.explained
        part = part_called(found, name) if found is not None else None
        if part is not None:
            self.state.part = part
            self.state.layer = part[1]

    def pick_effect(self, layer: int, column: int) -> None:
        """Pick the part of a clicked cell of the map of effects."""
        found = self.state.effects
        if found is not None and layer >= 0 and column >= 0:
            self.state.part = part_at(found, layer, column)
            self.state.layer = layer

    def _arrange(self, name: str) -> w.VBox:
        wrap = w.Layout(flex_flow="row wrap", align_items="center", grid_gap="6px 10px")
        again = w.Box([self.effect, self.other_question, self.measure], layout=wrap)
        conversation = card(
            "Conversation", "click the token to explain", self.transcript, grows=True
        )
        replies = card("Replies", "as it is, and with the part changed", self.replies)
        lens = card(
            "Which layer knew it",
            "the final norm and unembedding after each layer",
            self.lens,
            self.notes,
            pickers=[self.which_lens, self.layer],
        )
        parts = card(
            "What wrote it",
            "directly; click a bar to pick its part",
            self.parts,
            self.versus,
            pickers=[self.other_token],
            grows=True,
        )
        effect = card("What it needs", "click a cell to pick the part", again, self.effects)
        return page(
            heading(name, self.config, title="Qwen3 why explorer"),
            self.controls.box(),
            self.alert,
            columns([conversation], lens),
            columns([parts], effect),
            self.problem,
            columns([self.part.card()], replies),
            self.link,
        )


def _fitted(figure: go.Figure) -> go.Figure:
    """The figure without its title: the card has a heading and little space."""
    figure.update_layout(hovermode="x")  # A click beside a low bar picks it, too.
    figure.update_xaxes(title=None)
    return figure.update_layout(height=300, title=None, margin={"l": 52, "r": 12, "t": 24, "b": 60})


def _mark_bar(figure: go.Figure, name: str) -> None:
    """Mark the bar of a name with a band behind it, if it has one."""
    names = list(traces(figure)[0].x)
    if name in names:
        at = names.index(name)
        figure.add_vrect(
            at - 0.5, at + 0.5, fillcolor=STOP_COLOUR, opacity=0.14, line_width=0, layer="below"
        )
