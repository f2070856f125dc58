"""The card of changes: change the picked part, see what is in force, and what it changed."""

import html
from typing import Any

import ipywidgets as w

from qwen3lab.figures.theme import visible
from qwen3lab.text.tokenizer import encode_text
from qwen3lab.translation import later, tr, tr_count
from qwen3lab.widgets.components.copy_button import CopyButton
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.layout import Alert, close_tree, close_widgets_of
from qwen3lab.widgets.explorers.controls import WIDE, Bindings
from qwen3lab.widgets.explorers.replies import outcome_html
from qwen3lab.widgets.workbench.changes import (
    UNCHANGED,
    Change,
    Hide,
    ReadAs,
    Route,
    Scale,
    code_of,
    name_of,
)
from qwen3lab.widgets.workbench.views.view import ViewedBench, row, show_only

SCALED = ("head", "attention", "mlp", "layer")
FACTORS = ((later("off"), 0.0), ("× 0.5", 0.5), ("× 2", 2.0), ("× −1", -1.0))
EVERYWHERE, HERE, ONWARDS = later("everywhere"), later("at the token"), later("from the token on")
ON, OFF, HIDE, READ_AS = (
    later("force on"),
    later("off"),
    later("hide from later tokens"),
    later("read as …"),
)
TOOLTIPS = {
    "what": later("The part to change: what is picked in the views"),
    "how": later("What to do with it; × is a factor of what it writes"),
    "where": later("The tokens at which it is changed"),
}


class ChangesCard:
    """Offers changes of what is picked, lists those in force, and shows the reply without them.

    Args:
        bench: the workbench.

    Attributes:
        root: the widget.
        bindings: what it follows in the state.
    """

    def __init__(self, bench: ViewedBench) -> None:
        self.bench, self.state, self.config = bench, bench.state, bench.config
        self.bindings = Bindings(bench.state)
        self.what, self.how, self.where = (_menu(name) for name in ("what", "how", "where"))
        self.where.options = [(tr(each), each) for each in (EVERYWHERE, HERE, ONWARDS)]
        self.where.value = EVERYWHERE
        self.wanted: Any = None  # The kind of part that was chosen last.
        self._is_offering = self._is_stale = False
        self.token = w.Text(
            placeholder=tr("another token"),
            tooltip=tr("Text of the token to read in its place"),
            layout=w.Layout(width="110px"),
        )
        self.add = _button(tr("Add"), "plus", tr("Put this change in force; Run asks with it"))
        self.again = _button(
            tr("Add, ask again"), "", tr("Put it in force, and ask the same question")
        )
        self.clear = _button("", "trash", tr("Remove all: take every change out of force"))
        self.copy = CopyButton(label=tr("Copy as Python"))
        self.copy.hint = tr("Copy the changes as Python: the list of edits for lab.chat")
        self.fold = w.ToggleButton(
            tooltip=tr("Change a part of the model: the one that is picked"),
            layout=w.Layout(width="auto"),
        ).add_class("q3-fold-settings")
        self.most = _button(
            tr("largest change"),
            "arrow-up",
            tr("Pick the token whose prediction changed most; again, the next one"),
        )
        self.alert, self.outcome, self.changed = Alert(), w.HTML(), w.HTML()
        self.listed = w.VBox().add_class("q3-changes")
        self.controls = w.VBox(
            [
                row(self.what, self.how, self.token, self.where).add_class("q3-change-menus"),
                row(self.add, self.again),
            ]
        ).add_class("q3-change-controls")
        head = row(self.fold, self.clear, self.copy).add_class("q3-changes-head")
        self.root = w.VBox(
            [
                head,
                self.controls,
                self.alert,
                self.listed,
                self.outcome,
                row(self.most, self.changed),
            ]
        )
        self.root.add_class("q3-card").add_class("q3-changes-card")
        self._connect()
        for draw in (self.offer, self.list_changes, self.draw_outcome, self.draw_error):
            draw()

    def close(self) -> None:
        """Follow the state no more, and close the widgets."""
        self.bindings.unbind()
        close_widgets_of(self)

    def _connect(self) -> None:
        watch = self.bindings.watch
        picks = ["layer", "head", "routing_layer", "expert", "token", "recording", "steps"]
        watch(lambda _: self.follow_picks(), picks)
        watch(lambda _: self.list_changes(), ["changes"])
        watch(lambda _: self.draw_outcome(), ["baseline", "chat", "status"])
        watch(lambda _: self.draw_error(), ["change_error"])
        watch(lambda _: self.draw_changed(), ["changed_most"])
        watch(lambda _: self.enable(), ["status"])
        self.what.observe(lambda _: self.choose_part(), "value")
        self.how.observe(lambda _: self.offer_where(), "value")
        self.fold.observe(lambda _: self.draw_fold(), "value")
        self.add.on_click(lambda _: self.put(ask=False))
        self.again.on_click(lambda _: self.put(ask=True))
        self.most.on_click(lambda _: self.bench.interventions.jump())
        self.clear.on_click(lambda _: self.remove(*self.state.changes))

    def follow_picks(self) -> None:
        """Offer what is picked, as soon as the card is unfolded: a pick sends nothing to a fold."""
        self._is_stale = not self.fold.value
        if self.fold.value:
            self.offer()

    @shows_drawing_errors
    def offer(self) -> None:
        """Offer what is picked; a picked kind of part stays picked."""
        state, self._is_stale = self.state, False
        places = [("head", state.layer, state.head)]
        places += [(kind, state.layer, 0) for kind in SCALED[1:]]
        if state.expert >= 0:
            places.insert(0, ("expert", state.routing_layer, state.expert))
        options = [(name_of(*place), place[0]) for place in places]
        recording = state.shown
        if recording is not None and 0 <= state.token < len(recording):
            text = visible(recording.tokens[state.token])
            options.append((tr("token {token} “{text}”", token=state.token, text=text), "token"))
            first, end = self._step()
            if end > first:
                options.append(
                    (
                        tr("its step, tokens {first} to {last}", first=first, last=end - 1),
                        "step",
                    )
                )
        kinds = [kind for _, kind in options]
        # Another list picks its first item: that is no choice of a person.
        self._is_offering = True
        with self.what.hold_sync():
            self.what.options = options
            self.what.value = self.wanted if self.wanted in kinds else kinds[0]
        self._is_offering = False
        self.offer_how()

    def choose_part(self) -> None:
        """Keep the kind of part that was chosen, also while nothing of it is picked."""
        if not self._is_offering:
            self.wanted = self.what.value
            self.offer_how()

    def offer_how(self) -> None:
        """Offer what can be done with the part."""
        kind, kept = self.what.value, self.how.value
        offered: list[tuple[str, Any]] = [*FACTORS]
        if kind == "expert":
            offered = [(OFF, OFF), (ON, ON), *(pair for pair in FACTORS if pair[1])]
        elif kind in ("token", "step"):
            offered = [(HIDE, HIDE)]
            if kind == "token":
                offered.append((READ_AS, READ_AS))
        self.how.options = [(tr(text), value) for text, value in offered]
        values = [value for _, value in offered]
        self.how.value = kept if kept in values else values[0]
        self.offer_where()

    def offer_where(self) -> None:
        """Show the menu that fits: of the tokens at which a part is scaled, or of another token."""
        show_only(isinstance(self.how.value, float), self.where)
        show_only(self.how.value == READ_AS, self.token)

    def change(self) -> Change:
        """The change that is chosen.

        Raises:
            ValueError: no token is picked for a change at a token, or the text to read in place
                of a token is not one token.
        """
        state = self.state
        kind: Any = self.what.value
        how: Any = self.how.value
        if kind in ("token", "step"):
            if how == READ_AS:
                return ReadAs(state.token, self._token_id(), self.token.value)
            return Hide(*((state.token, state.token + 1) if kind == "token" else self._step()))
        layer = state.routing_layer if kind == "expert" else state.layer
        number = {"expert": state.expert, "head": state.head}.get(kind, 0)
        if how in (ON, OFF):
            return Route(layer, number, on=how == ON)
        if self.where.value != EVERYWHERE and state.token < 0:
            raise ValueError(tr("no token is picked: click one, or change the part everywhere"))
        first = None if self.where.value == EVERYWHERE else state.token
        end = state.token + 1 if self.where.value == HERE else None
        return Scale(kind, layer, number, how, first, end)

    def put(self, *, ask: bool) -> None:
        """Put the chosen change in force."""
        try:
            change = self.change()
        except ValueError as error:
            self.state.change_error = str(error)
            return
        self.bench.interventions.add(change, ask=ask)

    def remove(self, *changes: Change) -> None:
        """Take changes out of force."""
        for change in changes:
            self.bench.interventions.remove(change)

    def list_changes(self) -> None:
        """List the changes in force, each with a button that removes it."""
        old, changes = self.listed.children, self.state.changes
        self.listed.children = tuple(self._line(change) for change in changes)
        for line in old:
            close_tree(line)
        self.copy.text = code_of(changes) if changes else ""
        show_only(bool(changes), self.listed, self.clear, self.copy)
        self.draw_fold()
        self.enable()

    def draw_fold(self) -> None:
        """Say how many changes are in force; show the controls where the card is unfolded."""
        if self.fold.value and self._is_stale:
            self.offer()
        n, arrow = len(self.state.changes), "▾" if self.fold.value else "▸"
        said = tr("change the model")
        if n:
            said = tr_count("{n} change in force", "{n} changes in force", n)
        self.fold.description = f"{arrow} {said}"
        show_only(self.fold.value, self.controls)

    @shows_drawing_errors
    def draw_outcome(self) -> None:
        """Say what the model answers without the changes."""
        chat, plain = self.state.current, self.state.baseline
        shown = chat is not None and plain is not None
        self.outcome.value = outcome_html(tr(UNCHANGED), chat, plain) if chat and plain else ""
        show_only(shown, self.outcome, self.most, self.changed)

    def draw_changed(self) -> None:
        """Say which token's prediction changed most."""
        said = html.escape(self.state.changed_most)
        self.changed.value = f'<span class="q3-jumped" role="status">{said}</span>'

    def draw_error(self) -> None:
        """Show why a change was refused."""
        self.alert.say(self.state.change_error)

    def enable(self) -> None:
        """Disable the buttons that have no effect now."""
        idle = self.state.status == "idle"
        self.again.disabled = not idle or self.state.run == 0
        self.clear.disabled = not self.state.changes

    def _line(self, change: Change) -> w.Box:
        title = w.HTML(html.escape(change.title))
        remove = _button("", "times", tr("Remove: {change}", change=change.title))
        remove.layout.width = "26px"
        remove.on_click(lambda _: self.remove(change))
        return row(title, remove).add_class("q3-change")

    def _step(self) -> tuple[int, int]:
        """First and past-the-end position of the thinking step that holds the picked token."""
        for step in self.state.steps:
            if step.start <= self.state.token < step.end:
                return (step.start, step.end)
        return (0, 0)

    def _token_id(self) -> int:
        text = self.token.value
        ids = encode_text(self.bench.lab.tokenizer, text, special=False) if text else []
        if len(ids) != 1:
            raise ValueError(
                tr(
                    "“{text}” is {n} tokens: type the text of one token, with its "
                    "leading space if it has one",
                    text=text,
                    n=len(ids),
                )
            )
        return ids[0]


def _menu(name: str) -> w.Dropdown:
    return w.Dropdown(tooltip=tr(TOOLTIPS[name]), style=WIDE, layout=w.Layout(width="auto"))


def _button(text: str, icon: str, tooltip: str) -> w.Button:
    return w.Button(description=text, icon=icon, tooltip=tooltip, layout=w.Layout(width="auto"))
