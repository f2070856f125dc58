"""Widgets of the why explorer: panes that follow the state. Computes nothing."""

import html
from collections.abc import Callable, Sequence

import ipywidgets as w
import plotly.graph_objects as go

from qwen3lab import figures
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.figures.theme import empty_figure
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.layout import GAP, card, columns, heading, page
from qwen3lab.widgets.components.number_picker import NumberPicker
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.components.plot import Plot
from qwen3lab.widgets.explorers.chat_compute import attention_heatmap, routing_heatmap
from qwen3lab.widgets.explorers.controls import WIDE
from qwen3lab.widgets.explorers.replies import answers_html
from qwen3lab.widgets.explorers.reply_panel import ReplyPanel
from qwen3lab.widgets.explorers.why_compute import (
    effects_heatmap,
    lens_heatmap,
    lens_notes,
    part_at,
    part_name,
    recording_of,
)
from qwen3lab.widgets.explorers.why_state import (
    EFFECTS,
    EXPERTS,
    LOGIT_LENS,
    OTHER_QUESTION,
    WhyState,
)

NO_TOKEN = "Click a token of the reply to see why it was written."
NO_EFFECTS = "Press Measure to run the model again without each part."
MEASURING = "Running the model again, layer by layer …"
NO_PART = "Click a cell of the map of effects to pick a head, an expert, an MLP or a layer."


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
        self.inside = Canvas(height=320)
        self.parts = Plot(_fitted(empty_figure(NO_TOKEN)))
        self.notes, self.picked, self.replies = w.HTML(), w.HTML(), w.HTML()
        self._make_controls()
        self.root = self._arrange(name)
        self._follow()
        for draw in (self.draw_lens, self.draw_parts, self.draw_effects, self.draw_part):
            draw()
        self.draw_replies()

    def connect(
        self,
        *,
        measure: Callable[[], None],
        take_away: Callable[[], None],
        steer: Callable[[], None],
    ) -> None:
        """Set the callbacks of the buttons."""
        self.measure.on_click(lambda _: measure())
        self.take_away.on_click(lambda _: take_away())
        self.steer.on_click(lambda _: steer())

    def _make_controls(self) -> None:
        offered = [each for each in EFFECTS if self.config.is_moe or each != EXPERTS]
        self.effect = w.Dropdown(
            options=[(each, each) for each in offered],
            description="run again",
            tooltip="What is changed in the run, one part after another",
            style=WIDE,
            layout=w.Layout(width="310px"),
        )
        self.which_lens = w.Dropdown(
            options=[(each, each) for each in self.lens_names],
            tooltip="What reads the layers; a tuned and a Jacobian lens ship for embedded models",
            layout=w.Layout(width="130px"),
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
        self.strength = w.BoundedFloatText(
            min=-10.0,
            max=10.0,
            step=0.1,
            description="strength",
            tooltip="In multiples of the mean norm of the residual stream at the layer",
            style=WIDE,
            layout=w.Layout(width="140px"),
        )
        self.measure = _button("Measure", "Run the model again without each part", "110px")
        self.take_away = _button("Take away, ask again", "Ask without the picked part", "170px")
        self.steer = _button("Steer, ask again", "Push the reply towards the picked token", "140px")

    def _follow(self) -> None:
        for name in ("effect", "other_question", "other_token", "layer", "strength"):
            self.bindings.bind(name, getattr(self, name))
        self.bindings.bind("lens", self.which_lens)
        watch = self.bindings.watch
        watch(lambda _: self.draw_lens(), ["explained"])
        watch(lambda _: self.draw_parts(), ["explained"])
        watch(lambda _: self.draw_effects(), ["effects", "explained", "measuring"])
        watch(lambda _: self.draw_part(), ["part", "explained"])
        watch(lambda _: self.draw_notes(), ["explained", "layer"])
        watch(lambda _: self.draw_marks(), ["explained", "token", "layer", "part", "effects"])
        watch(lambda _: self.draw_replies(), ["chat", "edited"])
        watch(lambda _: self.enable(), ["effect", "part", "explained", "status", "measuring"])
        on_pick(self.lens, "selected", lambda cell: self.pick_lens(*cell))
        on_pick(self.effects, "selected", lambda cell: self.pick_effect(*cell))
        self.enable()

    def enable(self) -> None:
        """Disable the controls that have no effect now."""
        state = self.state
        busy = state.status != "idle" or state.explained is None
        self.measure.disabled = busy or state.measuring
        self.steer.disabled = busy
        self.take_away.disabled = busy or not state.part or state.part[0] == "layer"
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
            else:
                self.parts.show(_fitted(figures.attribution_waterfall(found.parts, most=10)))

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
    def draw_part(self) -> None:
        """Show what the picked part does in this run: its attention, or the routing to it."""
        state, chat = self.state, self.state.current
        with self.lock:
            if chat is None or not state.part:
                self.picked.value = f'<span class="q3-hint">{NO_PART}</span>'
                self.inside.layout.display = "none"
                return
            kind, layer, number = state.part
            self.picked.value = f"<b>{html.escape(part_name(state.part))}</b>"
            self.inside.layout.display = "" if kind in ("head", "expert") else "none"
            if kind == "head":
                self.inside.show(attention_heatmap(recording_of(chat), layer, number))
                self.inside.marked = [state.token - 1, -1]
            if kind == "expert":
                self.inside.show(routing_heatmap(recording_of(chat), layer))
                self.inside.marked = [number, state.token - 1]

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
        first = found.lens.positions[0] if found is not None else 0
        self.lens.marked = [state.layer, state.token - 1 - first] if found is not None else [-1, -1]
        number = state.part[2] if state.part else -1
        self.effects.marked = [state.part[1], number] if state.part else [-1, -1]
        self.mark_reply()

    def pick_lens(self, row: int, column: int) -> None:
        """Pick the layer of a clicked cell of the lens, and explain the token after its column."""
        found = self.state.explained
        if found is not None and row >= 0 and column >= 0:
            self.state.layer = row
            self.state.token = found.lens.positions[column] + 1

    def pick_effect(self, layer: int, column: int) -> None:
        """Pick the part of a clicked cell of the map of effects."""
        found = self.state.effects
        if found is not None and layer >= 0 and column >= 0:
            self.state.part = part_at(found, layer, column)
            self.state.layer = layer

    def _arrange(self, name: str) -> w.VBox:
        wrap = w.Layout(flex_flow="row wrap", align_items="center", grid_gap="6px 10px")
        again = w.Box([self.effect, self.other_question, self.measure], layout=wrap)
        change = w.Box([self.take_away, self.steer, self.strength], layout=wrap)
        conversation = card("Conversation", "click the token to explain", self.transcript)
        part = card("Picked part", "in this run", self.picked, self.inside, change)
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
            "the logit of the token minus that of the other one, part by part",
            self.parts,
            pickers=[self.other_token],
        )
        effect = card("What it needs", "click a cell to pick the part", again, self.effects)
        right = w.VBox([lens, parts], layout=w.Layout(grid_gap=GAP))
        below = w.VBox([part, replies], layout=w.Layout(grid_gap=GAP))
        return page(
            heading(name, self.config, title="Qwen3 why explorer"),
            self.controls.box(),
            self.alert,
            columns([conversation, effect], right),
            below,
        )


def _button(text: str, tooltip: str, width: str) -> w.Button:
    return w.Button(description=text, tooltip=tooltip, layout=w.Layout(width=width))


def _fitted(figure: go.Figure) -> go.Figure:
    """The figure without its title: the card has a heading and little space."""
    figure.update_xaxes(title=None)
    return figure.update_layout(height=300, title=None, margin={"l": 52, "r": 12, "t": 24, "b": 60})
