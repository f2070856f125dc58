"""State of a workbench: one for all of its views, read and set from Python."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import traitlets

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import HookError
from qwen3lab.figures.scales import AUTOMATIC, ScaleChoice
from qwen3lab.generation.reply import Chat
from qwen3lab.hooks.points import resolve_hooks
from qwen3lab.translation import later, tr
from qwen3lab.widgets.explorers.attention_state import AttentionState
from qwen3lab.widgets.explorers.compare_state import CompareState
from qwen3lab.widgets.explorers.find_state import FindState
from qwen3lab.widgets.explorers.routing_state import RoutingState
from qwen3lab.widgets.explorers.thinking_state import ThinkingState
from qwen3lab.widgets.explorers.why_state import WhyState
from qwen3lab.widgets.workbench.changes import UNCHANGED, Change, Route, titles, with_change
from qwen3lab.widgets.workbench.keep.notes import check_note

TABS = ("text", "attention", "routing", "thinking", "why", "compare", "raw")
"""The views, in the order of their tabs."""

PICKS = ("layer", "head", "routing_layer", "expert", "token")
"""What is picked in one view and shown in all of them."""

SURPRISAL, ENTROPY = later("surprisal (nats)"), later("entropy (nats)")
ATTENDS, ATTENDED = later("attention from the picked token"), later("attention to the picked token")
EXPERT_WEIGHT = later("weight of the picked expert")
QUANTITIES = (SURPRISAL, ENTROPY, ATTENDS, ATTENDED, EXPERT_WEIGHT)
"""What the tokens of the text can be shaded by."""

PANES = (later("thumbnails"), later("scores"), later("table"))
"""What the attention view shows beside the map of one head."""


class WorkbenchState(
    AttentionState, RoutingState, ThinkingState, WhyState, CompareState, FindState
):
    """The question and its settings, the run, and what is picked, for all views of a workbench.

    A layer, head, expert or token that does not exist is refused: setting it raises a `TraitError`
    that says what there is, and the workbench shows the same sentence.

    Args:
        config: of the model; it decides which picks exist.
        values: of the traits.

    Attributes:
        tab: the view that is shown, one of `TABS`.
        quantity: what the text is shaded by, one of `QUANTITIES`.
        colours: the colour scale of maps and of the shaded text, such as "square root" or
            "linear, clipped at 99%"; "automatic" chooses by the values.
        curve: True to show entropy and surprisal as curves below the text.
        pane: what is shown beside the map of a head, one of `PANES`.
        hook: the hook that the raw view shows.
        hook_filter: text that the names of the listed hooks contain.
        capturing: True while a hook is recorded.
        captured: number of hooks that were recorded since the run.
        pick_error: why the latest pick was refused; empty after the next one that is not.
        changes: the changes of the model in the next run, as `Change` objects.
        asked_changes: those of the latest run.
        change_error: why a change was refused, or empty.
        changed_most: what the latest jump to a largest change has picked, or empty.
        notes: on tokens, heads and experts, as `Note` objects.
    """

    tab = traitlets.Enum(TABS, TABS[0])
    quantity = traitlets.Enum(QUANTITIES, SURPRISAL)
    colours = traitlets.Unicode(AUTOMATIC)
    curve = traitlets.Bool(False)
    pane = traitlets.Enum(PANES, PANES[0])
    hook = traitlets.Unicode("hook_embed")
    hook_filter = traitlets.Unicode()
    capturing = traitlets.Bool(False)
    captured = traitlets.Int(0)
    pick_error = traitlets.Unicode()
    changes = traitlets.Tuple()
    asked_changes = traitlets.Tuple()
    change_error = traitlets.Unicode()
    changed_most = traitlets.Unicode()
    notes = traitlets.Tuple()

    def __init__(self, config: Qwen3Config, **values: Any) -> None:
        self.config = config
        super().__init__(**values)

    @traitlets.validate("changes")
    def _changes(self, proposal: Any) -> tuple[Change, ...]:
        for change in proposal["value"]:
            if not isinstance(change, Change):
                raise traitlets.TraitError(
                    tr(
                        "{change!r} is no change: use Scale, Route, Hide, ReadAs, Steer, AddVector "
                        "or Patch",
                        change=change,
                    )
                )
        return proposal["value"]

    @traitlets.validate(*PICKS)
    def _possible(self, proposal: Any) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        problem = self._problem(name, value)
        self.pick_error = problem
        if problem:
            raise traitlets.TraitError(problem)
        return value

    @traitlets.validate("colours")
    def _is_scale(self, proposal: Any) -> str:
        try:
            ScaleChoice.named(proposal["value"])
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from error
        return proposal["value"]

    @traitlets.validate("hook")
    def _known(self, proposal: Any) -> str:
        name = proposal["value"]
        try:
            found = resolve_hooks(name, self.config)
        except HookError as error:
            raise traitlets.TraitError(str(error)) from error
        if found != [name]:
            raise traitlets.TraitError(
                tr(
                    "{name!r} names {n_found} hooks: choose one of them",
                    name=name,
                    n_found=len(found),
                )
            )
        return name

    def is_off(self, layer: int, expert: int) -> bool:
        """True if no token of the next run is routed to the expert."""
        return Route(layer, expert) in self.changes

    def switch(self, layer: int, expert: int) -> None:
        """Switch an expert off, or on again; the next run uses the setting."""
        off = Route(layer, expert)
        self.changes = (
            tuple(change for change in self.changes if change != off)
            if off in self.changes
            else with_change(self.changes, off)
        )

    @traitlets.validate("notes")
    def _noted(self, proposal: Any) -> tuple[Any, ...]:
        try:
            return tuple(check_note(note, self.config) for note in proposal["value"])
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from error

    def _problem(self, name: str, value: int) -> str:
        """Why there is no such layer, head, expert or token; empty if there is one."""
        config = self.config
        if name == "token":
            n = 0 if self.recording is None else len(self.recording)
            there = (
                tr("the text has tokens 0 to {last}", last=n - 1)
                if n
                else tr("nothing has been run yet")
            )
            return (
                ""
                if -1 <= value < n
                else tr("token {value} does not exist: {there}", value=value, there=there)
            )
        if name == "routing_layer":
            layers = config.moe_layers
            listed = ", ".join(map(str, layers))
            is_known = value in (layers or (0,))
            there = _with(listed)
            return (
                ""
                if is_known
                else tr("layer {value} has no experts: {there}", value=value, there=there)
            )
        least, count, of = {
            "layer": (0, config.n_layers, later("the model has layers 0 to {last}")),
            "head": (0, config.n_heads, later("each layer has heads 0 to {last}")),
            "expert": (-1, config.n_experts, later("each layer has experts 0 to {last}")),
        }[name]
        if least <= value < count:
            return ""
        there = tr(of, last=count - 1) if count else tr("the model is dense")
        return tr("{name} {value} does not exist: {there}", name=tr(name), value=value, there=there)


def answers(state: WorkbenchState) -> list[tuple[str, Chat]]:
    """The replies to show side by side, each with its name."""
    chat = state.current
    if chat is None:
        return []
    replies = [(tr(UNCHANGED), state.baseline)] if state.baseline is not None else []
    replies.append((titles(state.asked_changes) or tr("this run"), chat))
    return replies


def _with(layers: str) -> str:
    return (
        tr("the layers with experts are {layers}", layers=layers)
        if layers
        else tr("the model is dense")
    )


def link_picks(
    one: WorkbenchState, other: WorkbenchState, names: Sequence[str] = PICKS
) -> Callable:
    """Keep picks of two states equal, as far as they exist in both; call the result to end it.

    A pick that one of them does not have, such as a later token, is refused there.
    """

    def to(target: WorkbenchState) -> Callable[[Any], None]:
        def follow(change: Any) -> None:
            with suppress(traitlets.TraitError):
                setattr(target, change["name"], change["new"])

        return follow

    pairs = [(one, to(other)), (other, to(one))]
    for name in names:
        with suppress(traitlets.TraitError):
            setattr(one, name, getattr(other, name))
    for state, follow in pairs:
        state.observe(follow, list(names))

    def unlink() -> None:
        for state, follow in pairs:
            state.unobserve(follow, list(names))

    return unlink
