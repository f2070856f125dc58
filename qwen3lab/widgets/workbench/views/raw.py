"""The raw view: any hook of the run by its name, as numbers and as a map."""

from collections.abc import Sequence

import ipywidgets as w

from qwen3lab.figures.scales import ScaleChoice
from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.explorers.raw_compute import (
    hook_html,
    listed_hooks,
    raw_heatmap,
    token_html,
)
from qwen3lab.widgets.workbench.views.view import WAITING, View, pane, row, side_by_side

MAX_LISTED = 400
"""Hooks in the list; a filter finds the others."""

NOT_RECORDED = later("Not recorded: press Record to run the conversation once more and record it.")
MAX_DRAWN = 20_000_000
"""Values of a hook that are drawn at most."""

TOO_LARGE = later("Too large for a map: pick a token to see its numbers.")
GONE = later("Not recorded, and there is no model to record it with.")


class RawPane(View):
    """One activation: its shape, its numbers at the picked token, and a map of all of it."""

    name, title = "raw", later("Raw")

    def build(self) -> Sequence[w.Widget]:
        """Make the list of hooks, the map and the numbers."""
        self._lists = False
        self.filter = w.Text(
            placeholder=tr("filter, such as 2 resid"),
            tooltip=tr("Words that the name contains"),
            layout=w.Layout(width="auto"),
        )
        self.bindings.bind("hook_filter", self.filter)
        self.hooks = w.Select(
            tooltip=tr("Hooks in the order of the forward pass"), layout=w.Layout(width="auto")
        ).add_class("q3-list")
        self.found, self.about, self.numbers = w.HTML(), w.HTML(), w.HTML()
        self.record = w.Button(
            description=tr("Record"),
            icon="circle",
            button_style="primary",
            tooltip=tr("Run the conversation once more, and record this hook"),
            layout=w.Layout(width="110px"),
        )
        self.record.on_click(lambda _: self.bench.raw.capture())
        self.hooks.observe(lambda change: self.choose(change["new"]), "value")
        self.map = Canvas(height=160, fills=True)
        on_pick(self.map, "selected", lambda cell: self.pick_token(cell[0]))
        values = ["recording", "hook", "captured"]
        self.follow(self.list_hooks, ["hook_filter", "hook", "recording"], locked=False)
        self.follow(self.describe, [*values, "capturing", "status"])
        self.colours = self.follow_colours()
        self.follow(self.draw_map, [*values, "colours"])
        self.follow(self.draw_numbers, [*values, "token"])
        self.follow(self.mark, ["token"])
        left = pane(tr("Hooks"), "", self.filter, self.hooks, self.found)
        right = pane(
            tr("Values"),
            tr("tokens × dimensions"),
            row(self.record, self.about),
            self.map,
            tools=[self.colours],
        )
        right.children = (*right.children, self.numbers)
        return [side_by_side(left, right, wide="last").add_class("q3-narrow-first")]

    def choose(self, hook: str | None) -> None:
        """Show another hook; keep it if the list has none."""
        if hook and not self._lists:
            self.state.hook = hook

    @shows_drawing_errors
    def list_hooks(self) -> None:
        """List the hooks whose names contain the filter's words."""
        given = None if self.bench.asks else self.state.recording
        found = listed_hooks(self.config, self.state.hook_filter, given)
        shown = found[:MAX_LISTED]
        self._lists = True  # Another list chooses its first hook: that is no choice of a person.
        if list(self.hooks.options) != shown:
            self.hooks.options = shown
        self.hooks.value = self.state.hook if self.state.hook in shown else None
        self._lists = False
        more = tr(", {n:,} more", n=len(found) - MAX_LISTED) if len(found) > MAX_LISTED else ""
        self.found.value = (
            f'<span class="q3-hint">{tr("{n:,} hooks{more}", n=len(shown), more=more)}</span>'
        )

    @shows_drawing_errors
    def describe(self) -> None:
        """Say what the hook is, and offer to record it if it was not."""
        state = self.state
        value = self.bench.raw.value(state.hook)
        self.about.value = hook_html(state.hook, self.config, value)
        missing = value is None and state.recording is not None and self.bench.asks
        self.record.layout.display = "" if missing else "none"
        self.record.disabled = state.capturing or state.status != "idle"

    @shows_drawing_errors
    def draw_map(self) -> None:
        """Draw the values of the hook."""
        state, recording = self.state, self.state.recording
        value = self.bench.raw.value(state.hook)
        if recording is None:
            self.map.show_nothing(tr(WAITING))
        elif value is not None and value.numel() > MAX_DRAWN:
            self.map.show_nothing(tr(TOO_LARGE))
        elif value is None:
            self.map.show_nothing(tr(NOT_RECORDED if self.bench.asks else GONE))
        else:
            self.map.colours = ScaleChoice.named(state.colours)
            self.map.show(raw_heatmap(state.hook, value, recording, self.config, self.map.colours))

    @shows_drawing_errors
    def draw_numbers(self) -> None:
        """Show the numbers at the picked token."""
        state, recording = self.state, self.state.shown
        value = self.bench.raw.value(state.hook)
        if recording is None or value is None or not 0 <= state.token < len(recording):
            self.numbers.value = (
                f'<span class="q3-hint">{tr("Click a row to see its numbers.")}</span>'
            )
        else:
            self.numbers.value = token_html(state.hook, value, recording, state.token)

    def mark(self) -> None:
        """Mark the row of the picked token."""
        self.map.marked = [self.state.token, -1]
