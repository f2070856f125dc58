"""The why view: which layer knew a token, what wrote it, and what happens without a part."""

import html
from collections.abc import Sequence

import ipywidgets as w
import plotly.graph_objects as go

from qwen3lab import figures
from qwen3lab.figures.theme import STOP_COLOUR, empty_figure, traces
from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.layout import Alert
from qwen3lab.widgets.components.number_picker import NumberPicker
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.components.plot import Plot
from qwen3lab.widgets.explorers.controls import WIDE
from qwen3lab.widgets.explorers.why_compute import (
    cell_of,
    effects_heatmap,
    lens_heatmap,
    lens_notes,
    offered_lenses,
    part_at,
    part_called,
    part_label,
)
from qwen3lab.widgets.explorers.why_state import EFFECTS, EXPERTS, LOGIT_LENS, OTHER_QUESTION
from qwen3lab.widgets.workbench.views.view import View, column, pane, row, side_by_side
from qwen3lab.widgets.workbench.views.why_part import PartPane, button

NO_TOKEN = later("Click a token of the reply to see why it was written.")
NO_LAB = later("There is no model to explain it with: create the workbench with a lab.")
NO_EFFECTS = later("Press Measure to run the model again without each part.")
N_BARS = 10
MEASURING = later("Running the model again, layer by layer …")


class WhyPane(View):
    """The lens, the attribution, the map of effects, and the picked part."""

    name, title = "why", later("Why")

    def build(self) -> Sequence[w.Widget]:
        """Make the maps, the pickers and the picked part's pane."""
        asks = self.bench.asks
        self.lens_names = offered_lenses(self.bench.lab) if asks else (LOGIT_LENS,)
        least = max(110, min(420, 70 + 3 * self.config.n_layers))
        self.lens = Canvas(height=least, fills=True)
        self.effects = Canvas(height=least, fills=True)
        self.colours = self.follow_colours(self.lens, self.effects)
        self.part = PartPane(self)
        self.parts_plot = Plot(_fitted(empty_figure(tr(NO_TOKEN))), fills=True)
        self.parts = [self.part]
        self.notes, self.versus, self.problem = w.HTML(), w.HTML(), Alert()
        self._make_controls()
        self._follow()
        return self._arrange()

    def _make_controls(self) -> None:
        offered = [each for each in EFFECTS if self.config.is_moe or each != EXPERTS]
        self.effect = w.Dropdown(
            options=[(tr(each), each) for each in offered],
            description=tr("run again"),
            tooltip=tr("What is changed in the run, one part after another"),
            style=WIDE,
            layout=w.Layout(flex="1 1 200px", width="auto"),
        )
        self.which_lens = w.Dropdown(
            options=[(tr(each), each) for each in self.lens_names],
            tooltip=tr(
                "What reads the layers; a tuned and a Jacobian lens ship for embedded models"
            ),
            layout=w.Layout(width="120px"),
        )
        self.other_question = w.Text(
            placeholder=tr("A question with as many tokens, such as other numbers"),
            tooltip=tr("Its residual stream is put in place, one layer and token after another"),
            layout=w.Layout(flex="1 1 240px", width="auto"),
        )
        self.other_token = w.Text(
            placeholder=tr("runner-up"),
            description=tr("rather than"),
            tooltip=tr(
                "The token that the written one is compared with; empty: the most probable one"
            ),
            continuous_update=False,
            style=WIDE,
            layout=w.Layout(width="190px"),
        )
        self.layer = NumberPicker(tr("layer"), range(self.config.n_layers), tr("Layer of the lens"))
        self.measure = button(tr("Measure"), tr("Run the model again without each part"), "90px")
        self.measure.on_click(lambda _: self.bench.why.measure())

    def _follow(self) -> None:
        for name in ("effect", "other_question", "other_token", "layer"):
            self.bindings.bind(name, getattr(self, name))
        self.bindings.bind("lens", self.which_lens)
        self.follow(self.draw_lens, ["explained"])
        self.follow(self.draw_parts, ["explained", "part"])
        self.follow(self.draw_effects, ["effects", "explained", "measuring_effects"])
        self.follow(self.draw_notes, ["explained", "layer"])
        self.follow(self.draw_marks, ["explained", "token", "layer", "part", "effects"])
        self.follow(self.draw_problem, ["problem"])
        self.follow(self.enable, ["effect", "explained", "status", "measuring_effects"])
        on_pick(self.lens, "selected", lambda cell: self.pick_lens(*cell))
        on_pick(self.effects, "selected", lambda cell: self.pick_effect(*cell))
        self.parts_plot.on_name(self.pick_bar)

    def enable(self) -> None:
        """Disable the controls that have no effect now."""
        state = self.state
        busy = state.status != "idle" or state.explained is None
        self.measure.disabled = busy or state.measuring_effects
        hidden = "" if state.effect == OTHER_QUESTION else "none"
        self.other_question.layout.display = hidden

    @shows_drawing_errors
    def draw_lens(self) -> None:
        """Draw the probability of the explained token at each layer and token."""
        found = self.state.explained
        with self.lock:
            if found is None:
                self.lens.show_nothing(tr(NO_TOKEN if self.bench.asks else NO_LAB))
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
                self.parts_plot.show(_fitted(empty_figure(tr(NO_TOKEN))))
                self.versus.value = ""
                return
            figure = _fitted(figures.attribution_waterfall(found.parts, most=N_BARS))
            if self.state.part:
                _mark_bar(figure, part_label(self.state.part))
            self.parts_plot.show(figure)
            label, total = html.escape(found.parts.label), found.parts.total
            text = tr(
                "{label} = {total:.2f}; heads, experts: layer.number", label=label, total=total
            )
            self.versus.value = f'<span class="q3-hint">{text}</span>'

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
                self.effects.show_nothing(tr(NO_TOKEN))
            else:
                self.effects.show_nothing(tr(MEASURING if state.measuring_effects else NO_EFFECTS))

    def draw_marks(self) -> None:
        """Mark the explained token and the picked layer and part."""
        state, found = self.state, self.state.explained
        self.lens.marked = [state.layer, state.token - 1] if found is not None else [-1, -1]
        effects = state.effects
        cell = cell_of(effects, state.part) if effects is not None and state.part else (-1, -1)
        self.effects.marked = list(cell)

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

    def _arrange(self) -> list[w.Widget]:
        lens = pane(
            tr("Which layer knew it"),
            tr("after each layer"),
            self.lens,
            self.notes,
        )
        written = pane(
            tr("What wrote it"),
            tr("directly; click a bar"),
            self.parts_plot,
            self.versus,
        )
        effect = pane(
            tr("What it needs"),
            tr("click a cell to pick the part"),
            row(self.effect, self.measure, self.other_question),
            self.effects,
        )
        body = side_by_side(column(lens, effect), column(written, self.part.pane))
        return [
            row(self.layer, self.which_lens, self.other_token, self.colours),
            self.problem,
            body,
        ]


def _fitted(figure: go.Figure) -> go.Figure:
    """The figure without its title: the card has a heading and little space."""
    figure.update_layout(hovermode="x")  # A click beside a low bar picks it, too.
    figure.update_xaxes(title=None).update_yaxes(title=tr("logits"))
    return figure.update_layout(height=150, title=None, margin={"l": 52, "r": 12, "t": 8, "b": 60})


def _mark_bar(figure: go.Figure, name: str) -> None:
    """Mark the bar of a name with a band behind it, if it has one."""
    names = list(traces(figure)[0].x)
    if name in names:
        at = names.index(name)
        figure.add_vrect(
            at - 0.5, at + 0.5, fillcolor=STOP_COLOUR, opacity=0.14, line_width=0, layer="below"
        )
