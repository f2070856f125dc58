"""The workbench on the page: the question and the conversation, and a stage with the views."""

import html
import threading

import ipywidgets as w

from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.layout import Alert, close_widgets_of, heading, page
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.components.transcript import Transcript
from qwen3lab.widgets.explorers.chat_compute import progress, token_notes
from qwen3lab.widgets.explorers.controls import Bindings, Controls
from qwen3lab.widgets.workbench.keep.drawer import KeepDrawer
from qwen3lab.widgets.workbench.keep.note_card import NoteCard
from qwen3lab.widgets.workbench.keep.static_picture import StaticPicture
from qwen3lab.widgets.workbench.notice import AnswerNotice
from qwen3lab.widgets.workbench.state import PICKS, TABS
from qwen3lab.widgets.workbench.token_card import AlternativesRow, BranchMenu
from qwen3lab.widgets.workbench.views.attention import AttentionPane
from qwen3lab.widgets.workbench.views.changes_card import ChangesCard
from qwen3lab.widgets.workbench.views.compare import ComparePane
from qwen3lab.widgets.workbench.views.raw import RawPane
from qwen3lab.widgets.workbench.views.routing import RoutingPane
from qwen3lab.widgets.workbench.views.text import ShadedText
from qwen3lab.widgets.workbench.views.thinking import ThinkingPane
from qwen3lab.widgets.workbench.views.view import View, ViewedBench
from qwen3lab.widgets.workbench.views.why import WhyPane

VIEWS: dict[str, type[View]] = {
    kind.name: kind
    for kind in (
        ShadedText,
        AttentionPane,
        RoutingPane,
        ThinkingPane,
        WhyPane,
        ComparePane,
        RawPane,
    )
}
NO_ROUTING = later("this model is dense: it has no experts, and no routing to show")
NO_TOKEN_PICKED = later("Click a token in the conversation or in a view to see its values here.")


class BenchPanel:
    """All widgets of a workbench while it is displayed; they follow its state.

    Args:
        bench: the workbench.

    Attributes:
        root: the widget to display.
        views: the tabs' views, by name.
        alert: errors of a run, beside the question.
        changes: the card of changes; None where questions cannot be asked.
        stage_alert: errors of a view and picks that were refused, above the views.
    """

    def __init__(self, bench: ViewedBench) -> None:
        self.bench, self.state, self.bindings = bench, bench.state, Bindings(bench.state)
        self.lock = threading.RLock()  # The worker threads and callbacks both draw.
        self.controls = Controls(bench.state, bench.examples)
        self.controls.connect(run=bench.start, stop=bench.stop)
        self.transcript = Transcript(layout=w.Layout(flex="1 1 auto"))
        self.alert, self.stage_alert, self.notes = Alert(), Alert(), w.HTML()
        self.changes = ChangesCard(bench) if bench.asks else None
        self.alternatives, self.branches = AlternativesRow(bench), BranchMenu(bench)
        self.notice = AnswerNotice(bench)
        self.noting, self.keep = NoteCard(bench), KeepDrawer(bench)
        self.picture = StaticPicture(bench)
        self.views = {name: VIEWS[name](bench, self.lock) for name in self._names()}
        self.tabs = w.Tab(
            children=[view.root for view in self.views.values()],
            titles=[tr(view.title) for view in self.views.values()],
        ).add_class("q3-tabs")
        self._follow()
        self.root = self._arrange()
        self.draw_reply()
        self.draw_errors()
        self.draw_marks()
        self.open_tab()

    def wait(self) -> None:
        """Wait until everything is drawn."""
        for view in self.views.values():
            view.wait()

    def close(self) -> None:
        """Take every widget out of the page and out of memory."""
        self.picture.close()
        if self.changes is not None:
            self.changes.close()
        for part in (*self.views.values(), self.alternatives, self.branches, self.notice):
            part.close()
        parts = (self, self.controls, self.noting, self.keep, self.picture)
        for part in parts:
            part.bindings.unbind()
        close_widgets_of(*parts)

    def _names(self) -> list[str]:
        """The tabs that the model has: a dense one has no routing, unless it is asked for."""
        dense = not self.bench.config.is_moe and self.state.tab != "routing"
        return [name for name in TABS if not (dense and name == "routing")]

    def _follow(self) -> None:
        watch = self.bindings.watch
        watch(lambda _: self.clear_error(), [*PICKS, "hook", "tab"])
        watch(lambda _: self.open_tab(), ["tab"])
        watch(lambda _: self.draw_reply(), ["chips", "status", "asked_budget"])
        watch(lambda _: self.draw_errors(), ["error", "drawing_error", "pick_error"])
        watch(lambda _: self.draw_marks(), ["recording", "run", *PICKS])
        watch(lambda _: self.draw_age(), ["status"])
        on_pick(self.transcript, "selected", self.pick_chip)
        self.tabs.observe(lambda change: self.pick_tab(change["new"]), "selected_index")

    def clear_error(self) -> None:
        """Remove the error of what was drawn before."""
        self.state.drawing_error = ""

    def open_tab(self) -> None:
        """Show the tab of the state, and draw it."""
        name, names = self.state.tab, [*self.views]
        if name not in self.views:
            self.state.pick_error = tr(NO_ROUTING)
            self.state.tab = names[self.tabs.selected_index or 0]
            return
        for other, view in self.views.items():
            if other != name:
                view.hide()
        self.tabs.selected_index = names.index(name)
        self.views[name].show()

    def pick_tab(self, index: int | None) -> None:
        """Show the tab that was clicked."""
        if index is not None:
            self.state.tab = [*self.views][index]

    @shows_drawing_errors
    def draw_reply(self) -> None:
        """Show the tokens generated so far."""
        with self.lock:
            state = self.state
            self.transcript.show(state.run, state.asked, state.chips, progress(state))

    def draw_errors(self) -> None:
        """Show the errors where their cause is: of a run, and of what is drawn."""
        self.alert.say(self.state.error)
        self.stage_alert.say(
            "\n".join(filter(None, (self.state.drawing_error, self.state.pick_error)))
        )

    @shows_drawing_errors
    def draw_marks(self) -> None:
        """Mark the picked token in the conversation, and say what is known of it."""
        state, chat, recording = self.state, self.state.current, self.state.shown
        with self.lock:
            first = chat.spans["prompt"][1] if chat is not None else 0
            is_reply = chat is not None and state.token >= first
            self.transcript.marked = state.token - first if is_reply else -1
            found = token_notes(recording, chat, state) if recording is not None else []
            lines = "".join(f"<div>{html.escape(note)}</div>" for note in found)
            hint = f'<div class="q3-hint">{tr(NO_TOKEN_PICKED)}</div>'
            self.notes.value = f'<div class="q3-token">{lines or hint}</div>'

    def draw_age(self) -> None:
        """Fade the views of the previous run while a new one is running."""
        is_old = self.state.status != "idle" and self.state.chat is not None
        (self.tabs.add_class if is_old else self.tabs.remove_class)("q3-old")

    def pick_chip(self, index: int) -> None:
        """Pick a token of the reply."""
        if index >= 0 and self.state.current is not None:
            self.state.token = self.state.current.spans["prompt"][1] + index

    def _conversation(self) -> w.VBox:
        talk = w.VBox([self.branches.menu, self.transcript])
        return talk.add_class("q3-card").add_class("q3-talk")

    def _arrange(self) -> w.VBox:
        title = heading(self.bench.name, self.bench.config, title=tr("Qwen3 workbench"))
        found = [self.notes, self.alternatives.buttons, self.noting.lines, self.noting.row]
        notes = w.VBox(found).add_class("q3-card").add_class("q3-token-card")
        ask = [] if self.changes is None else [self.controls.box(), self.changes.root]
        talk = [self._conversation()] if self.bench.asks or self.state.chat is not None else []
        left = w.VBox([title, *ask, self.alert, *talk, self.notice.root, notes]).add_class(
            "q3-left"
        )
        kept = [self.keep.open, self.keep.card]
        stage = w.VBox([self.stage_alert, self.tabs, *kept]).add_class("q3-bench-stage")
        body = w.Box([left, stage]).add_class("q3-bench-body")
        return page(self.picture.hider, body).add_class("q3-bench")
