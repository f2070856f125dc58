"""Controls of the explorers, bound to the state in both directions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import ipywidgets as w

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.translation import tr
from qwen3lab.widgets.components.number_picker import NumberPicker
from qwen3lab.widgets.explorers.state import ExplorerState

BUDGETS = (0, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Thinking budgets of the slider, in tokens; above, they double up to the longest reply."""

NO_LIMIT = -1
"""Slider value for a budget of None, which a slider cannot hold."""

WIDE = {"description_width": "initial"}

Follow = Callable[[Callable[[], None], list[str]], None]
"""Calls a function whenever a trait changes that it is given the name of."""


class Bindings:
    """Keeps widget values and state traits equal, until `unbind`."""

    def __init__(self, state: ExplorerState) -> None:
        self.state = state
        self.watched: list[tuple[Callable[..., None], list[str]]] = []

    def watch(self, handler: Callable[..., None], names: list[str]) -> None:
        """Call the handler when one of the traits changes."""
        self.state.observe(handler, names)
        self.watched.append((handler, names))

    def bind(
        self, name: str, widget: Any, *, none: int | None = None, follow: Follow | None = None
    ) -> None:
        """Keep a widget's value and the trait `name` equal.

        The state can hold a value that the widget does not offer, such as a budget that is not on
        the slider: the widget keeps its value then.

        Args:
            name: of the trait.
            widget: with a `value`.
            none: the widget's value for a trait of None, which it cannot hold.
            follow: `View.follow` of the tab that the widget is in: while another tab is shown, the
                widget is not sent to the page.
        """

        def to_widget(value: object) -> None:
            value = none if value is None else value
            options = getattr(widget, "options", None)
            if options is None or value in [option[1] for option in options]:
                widget.value = value

        def to_state(value: object) -> None:
            setattr(self.state, name, None if none is not None and value == none else value)

        to_widget(getattr(self.state, name))
        widget.observe(lambda change: to_state(change["new"]), "value")
        if follow is None:
            self.watch(lambda change: to_widget(change["new"]), [name])
        else:
            follow(lambda: to_widget(getattr(self.state, name)), [name])

    def unbind(self) -> None:
        """Stop following the state."""
        for handler, names in self.watched:
            self.state.unobserve(handler, names)
        self.watched.clear()


class HasBindings(Protocol):
    """A part of a panel, whose widgets follow the state until its bindings end."""

    bindings: Bindings


class Controls:
    """Question, settings of a run, and the Run and Stop buttons."""

    def __init__(self, state: ExplorerState, examples: Sequence[str]) -> None:
        self.state, self.bindings = state, Bindings(state)
        self.question = w.Text(
            placeholder=tr("Type a question and press Enter"),
            description=tr("Question"),
            tooltip=tr("The question for the model; press Enter to run it"),
            style=WIDE,
            layout=w.Layout(width="auto"),
        )
        self.example = w.Dropdown(
            options=[(tr("Examples …"), ""), *((text, text) for text in examples)],
            tooltip=tr("Example questions for this model"),
            layout=w.Layout(width="auto", flex="1 1 0"),
        )
        self.run = w.Button(
            description=tr("Run"),
            icon="play",
            button_style="primary",
            tooltip=tr("Run the model on this question"),
            layout=w.Layout(width="84px"),
        )
        self.stop = w.Button(
            description=tr("Stop"),
            icon="stop",
            tooltip=tr("Stop the run and keep the tokens generated so far"),
            layout=w.Layout(width="84px"),
        )
        self.fold = w.ToggleButton(
            tooltip=tr("Show or hide the settings of a run: thinking, budget, decoding"),
            layout=w.Layout(width="auto"),
        ).add_class("q3-fold-settings")
        self._make_settings()
        settings = [self.thinking, self.budget, self.greedy, self.temperature, self.seed]
        wrap = w.Layout(flex_flow="row wrap", align_items="center", grid_gap="4px 8px")
        self.folded = w.Box(settings, layout=wrap)
        self._tie()
        self.draw_fold()

    def _make_settings(self) -> None:
        self.thinking = w.Checkbox(
            description=tr("think first"),
            indent=False,
            tooltip=tr("The model thinks before it answers"),
            layout=w.Layout(width="105px"),
        )
        self.budget = w.SelectionSlider(
            options=_budgets(self.state.budget, self.state.longest_budget),
            description=tr("thinking budget"),
            tooltip=tr(
                "Thinking tokens allowed, also of a model that thinks unasked; then the "
                "early-stop sentence is inserted"
            ),
            style=WIDE,
            layout=w.Layout(width="290px"),
        )
        self.greedy = w.Dropdown(
            options=[(tr("greedy"), True), (tr("sampled"), False)],
            description=tr("decoding"),
            tooltip=tr("Greedy: always the most likely token. Sampled: a random token"),
            style=WIDE,
            layout=w.Layout(width="150px"),
        )
        self.temperature = w.BoundedFloatText(
            min=0.05,
            max=2.0,
            step=0.05,
            description=tr("temperature"),
            tooltip=tr("Sampling temperature: higher values give more varied replies"),
            style=WIDE,
            layout=w.Layout(width="140px"),
        )
        self.seed = w.BoundedIntText(
            min=0,
            max=2**31 - 1,
            description=tr("seed"),
            tooltip=tr("Random seed: the same seed gives the same reply"),
            style=WIDE,
            layout=w.Layout(width="96px"),
        )

    def _tie(self) -> None:
        for name in ("question", "thinking", "greedy", "temperature", "seed"):
            self.bindings.bind(name, getattr(self, name))
        self.bindings.bind("budget", self.budget, none=NO_LIMIT)
        self.example.observe(lambda change: self.take_example(change["new"]), "value")
        settings = ["thinking", "budget", "greedy", "temperature", "seed"]
        self.bindings.watch(lambda _: self.draw_fold(), settings)
        self.fold.observe(lambda _: self.draw_fold(), "value")
        work = ["answering", "measuring_effects", "beside"]
        self.bindings.watch(lambda _: self.enable(), ["status", "greedy", *work])
        self.enable()

    def connect(self, *, run: Callable[[], None], stop: Callable[[], None]) -> None:
        """Set the callbacks of Run (also of Enter in the question box) and Stop."""
        self.run.on_click(lambda _: run())
        self.stop.on_click(lambda _: stop())
        self.question.on_msg(lambda _, message, __: _is_enter(message) and run())

    def take_example(self, text: str) -> None:
        """Copy an example into the question box, and reset the menu."""
        if text:
            self.state.question = text
            self.example.value = ""

    def enable(self) -> None:
        """Disable the controls that have no effect now."""
        self.run.disabled = self.state.status != "idle"
        self.stop.disabled = not self.state.can_stop
        self.stop.button_style = "" if self.stop.disabled else "warning"
        self.temperature.disabled = self.seed.disabled = self.state.greedy

    def box(self) -> w.VBox:
        """The question, the buttons, and the settings folded into one row that says them."""
        line = w.Layout(align_items="center", grid_gap="8px")
        buttons = w.Box([self.example, self.run, self.stop], layout=line)
        box = w.VBox([self.question, buttons, self.fold, self.folded]).add_class("q3-card")
        return box.add_class("q3-ask")

    def draw_fold(self) -> None:
        """Show or hide the settings, and say them in one line."""
        state, is_open = self.state, self.fold.value
        self.folded.layout.display = "" if is_open else "none"
        budget = (
            tr("no limit") if state.budget is None else tr("budget {budget:,}", budget=state.budget)
        )
        mode = (
            tr("think first, {budget}", budget=budget)
            if state.thinking
            else tr("no thinking, {budget}", budget=budget)
        )
        how = (
            tr("greedy")
            if state.greedy
            else tr(
                "temperature {temperature:g}, seed {seed}",
                temperature=state.temperature,
                seed=state.seed,
            )
        )
        self.fold.description = tr("{mode}, {how}", mode=mode, how=how)
        self.fold.icon = "angle-down" if is_open else "angle-right"


class Pickers:
    """Layer and head shown; another one is drawn from the recording.

    Args:
        state: has the picks.
        config: of the model.
        follow: of the view that shows them, as in `Bindings.bind`.
    """

    def __init__(self, state: ExplorerState, config: Qwen3Config, follow: Follow) -> None:
        self.bindings = Bindings(state)
        self.layer = NumberPicker(
            tr("layer"), range(config.n_layers), tr("Layer whose attention is shown")
        )
        self.head = NumberPicker(
            tr("head"), range(config.n_heads), tr("Query head whose attention is shown")
        )
        layers = config.moe_layers or (0,)
        self.routing_layer = NumberPicker(tr("layer"), layers, tr("Layer whose routing is shown"))
        for name in ("layer", "head", "routing_layer"):
            self.bindings.bind(name, getattr(self, name), follow=follow)


def _budgets(chosen: int | None, longest: int) -> list[tuple[str, int]]:
    larger = (BUDGETS[-1] * 2**n for n in range(1, longest.bit_length()))
    offered = {n for n in (*BUDGETS, *larger) if n <= longest}
    budgets = sorted(offered | (set() if chosen is None else {chosen}))
    return [*((str(n), n) for n in budgets), (tr("no limit"), NO_LIMIT)]


def _is_enter(message: Mapping[str, object]) -> bool:
    return message.get("event") == "submit"
