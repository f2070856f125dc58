"""What the views of the workbench have in common: they are made and drawn when they are shown."""

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import ipywidgets as w

from qwen3lab.figures.scales import AUTOMATIC, LINEAR, LOGARITHM, ROOT, ScaleChoice
from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.layout import close_widgets_of
from qwen3lab.widgets.explorers.controls import WIDE, Bindings, HasBindings
from qwen3lab.widgets.workbench.keep.notes import Kind
from qwen3lab.widgets.workbench.parts.branches import BranchesPart
from qwen3lab.widgets.workbench.parts.capture import CapturePart
from qwen3lab.widgets.workbench.parts.comparison import ComparisonPart
from qwen3lab.widgets.workbench.parts.early_answers import EarlyAnswers
from qwen3lab.widgets.workbench.parts.experts import ExpertsPart
from qwen3lab.widgets.workbench.parts.explanation import ExplanationPart
from qwen3lab.widgets.workbench.parts.find import FindPart
from qwen3lab.widgets.workbench.parts.heads import HeadsPart
from qwen3lab.widgets.workbench.parts.interventions import InterventionsPart
from qwen3lab.widgets.workbench.parts.part import AskingBench

CLIPS = ("", ", clipped at 99%")
COLOURS = (AUTOMATIC, *(kind + clip for kind in (LINEAR, ROOT, LOGARITHM) for clip in CLIPS))
"""The colour scales on offer; Python can set another quantile."""

WAITING = later("The plot appears after the first run.")


@runtime_checkable
class ViewedBench(AskingBench, Protocol):
    """The part of a `Workbench` that its views show and call."""

    examples: tuple[str, ...]
    max_new_tokens: int
    model_fingerprint: str
    opened_run: int

    @property
    def heads(self) -> HeadsPart:
        """The head scores."""
        ...

    @property
    def experts(self) -> ExpertsPart:
        """Experts off and on, direct logit effects."""
        ...

    @property
    def thinking(self) -> EarlyAnswers:
        """Steering of the thinking, and early answers."""
        ...

    @property
    def why(self) -> ExplanationPart:
        """Explanations, and replies with a part changed."""
        ...

    @property
    def compare(self) -> ComparisonPart:
        """A second run to compare with."""
        ...

    @property
    def raw(self) -> CapturePart:
        """Hooks that the run did not keep."""
        ...

    @property
    def interventions(self) -> InterventionsPart:
        """The changes in force."""
        ...

    @property
    def find(self) -> FindPart:
        """Search in the text, and jumps to the largest values."""
        ...

    @property
    def branches(self) -> BranchesPart:
        """Replies that go on from another token."""
        ...

    def note(self, text: str, on: Kind = "token") -> None:
        """Write a note on the picked token, head or expert."""
        ...

    @property
    def code(self) -> str:
        """Python code that makes the view again."""
        ...

    def save(self, path: str | Path) -> None:
        """Save the view."""
        ...

    def export_html(self, path: str | Path, *, layers: Sequence[int] | None = None) -> None:
        """Write the run as one HTML page."""
        ...

    def export_csv(self, path: str | Path) -> None:
        """Write the numbers of the tab as CSV."""
        ...

    def start(self) -> None:
        """Ask the question in the box."""
        ...

    def stop(self) -> None:
        """Stop the run."""
        ...


class View:
    """One tab of the workbench.

    Its widgets are made when it is shown for the first time. While another tab is shown, a change
    of the state only notes what has to be drawn again: a pick costs what is seen of it.

    Args:
        bench: the workbench.
        lock: held while a widget is drawn; worker threads draw, too.

    Attributes:
        name: of the tab, in the state.
        title: of the tab, on the page.
        root: the widget of the tab.
        bindings: what the view follows in the state.
        parts: objects with widgets and bindings of their own.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, bench: ViewedBench, lock: Any) -> None:
        self.bench, self.state, self.config, self.lock = bench, bench.state, bench.config, lock
        self.bindings = Bindings(bench.state)
        self.root = w.VBox().add_class("q3-view")
        self.parts: list[HasBindings] = []
        self.is_built = self.is_shown = False
        self._draws: list[Callable[[], None]] = []
        self._stale: dict[Callable[[], None], None] = {}
        self._waiting = threading.Lock()  # Of the list of what waits; nothing is drawn inside.

    def build(self) -> Sequence[w.Widget]:
        """Make the widgets and follow the state; returns the rows of the tab from the top."""
        raise NotImplementedError

    def follow(
        self, draw: Callable[[], None], names: Sequence[str], *, locked: bool = True
    ) -> None:
        """Call `draw` when the view is shown for the first time, and when a trait has changed.

        While another tab is shown, the call waits until this one is opened again.

        Args:
            draw: draws from the state.
            names: traits of the state.
            locked: False for one that takes another lock or starts work: it holds `lock` itself,
                for no longer than it draws.
        """

        def drawing() -> None:
            with self.lock if locked else nullcontext():
                draw()

        def changed(_: object) -> None:
            with self._waiting:
                if not self.is_shown:
                    self._stale[drawing] = None
                    return
            drawing()

        self._stale[drawing] = None
        self._draws.append(drawing)
        self.bindings.watch(changed, list(names))

    def follow_colours(self, *maps: Canvas) -> w.Dropdown:
        """A menu of the colour scale, which these maps use; call it before they are drawn."""
        menu = w.Dropdown(
            options=[(_scale_name(each), each) for each in COLOURS],
            description=tr("colours"),
            tooltip=tr("Colour scale of the maps and of the shaded text; signed maps stay linear"),
            style=WIDE,
            layout=w.Layout(width="220px"),
        )
        self.bindings.bind("colours", menu, follow=self.follow)
        chosen = self.state

        def recolour() -> None:
            for each in maps:
                each.recolour(ScaleChoice.named(chosen.colours))

        self.follow(recolour, ["colours"])
        return menu

    def show(self) -> None:
        """Make the widgets if there are none yet, and draw what has changed."""
        if not self.is_built:
            self.root.children = tuple(self.build())
            self.is_built = True
        with self._waiting:
            self.is_shown = True
            stale = [draw for draw in self._draws if draw in self._stale]  # A map before its marks.
            self._stale.clear()
        for draw in stale:
            draw()

    def hide(self) -> None:
        """Draw nothing until the view is shown again."""
        with self._waiting:
            self.is_shown = False

    def wait(self) -> None:
        """Wait until everything is drawn."""

    def close(self) -> None:
        """Take every widget out of the page and out of memory."""
        self.is_shown = False
        for bindings in (self.bindings, *(part.bindings for part in self.parts)):
            bindings.unbind()
        close_widgets_of(self, *self.parts)

    def pick_token(self, token: int) -> None:
        """Pick a token of the conversation, if there is one."""
        recording = self.state.shown
        if recording is not None and 0 <= token < len(recording):
            self.state.token = token


def pane(
    title: str,
    hint: str,
    *body: w.Widget,
    tools: Sequence[w.Widget] = (),
    grows: bool = True,
) -> w.VBox:
    """A frame of the stage: a title with a hint and tools, and what fills the rest.

    Args:
        title: heading of the pane.
        hint: how to use it, in a few words.
        body: widgets from the top.
        tools: controls to the right of the title.
        grows: True if it shares the free height of its column; False for as high as its body.
    """
    text = f'<span class="q3-heading">{title}</span> <span class="q3-hint">{hint}</span>'
    head = w.Box([w.HTML(text).add_class("q3-pane-title"), *tools]).add_class("q3-pane-head")
    found = w.VBox([head, *body]).add_class("q3-card").add_class("q3-pane")
    return found.add_class("q3-grows") if grows else found


def row(*widgets: w.Widget) -> w.Box:
    """Controls beside each other, which wrap where there is no room."""
    return w.Box(list(widgets)).add_class("q3-row")


def column(*widgets: w.Widget) -> w.VBox:
    """Panes below each other, which share the height."""
    return w.VBox(list(widgets)).add_class("q3-column")


def side_by_side(*widgets: w.Widget, wide: str = "") -> w.Box:
    """Panes or columns beside each other; `wide` names the one with more room: first or last."""
    found = w.Box(list(widgets)).add_class("q3-side")
    return found.add_class(f"q3-wide-{wide}") if wide else found


def scroller(*widgets: w.Widget) -> w.VBox:
    """What scrolls inside its pane where it is higher."""
    return w.VBox(list(widgets)).add_class("q3-scroller")


def show_only(shown: bool, *widgets: w.DOMWidget) -> None:
    """Show the widgets, or hide them."""
    for widget in widgets:
        widget.layout.display = "" if shown else "none"


def _scale_name(text: str) -> str:
    """A colour scale of `COLOURS`, in the language that is shown."""
    kind, _, clip = text.partition(", clipped at ")
    return tr(kind) if not clip else tr("{kind}, clipped at {share}", kind=tr(kind), share=clip)
