"""What belongs to the token card of the left column: alternatives, and the list of branches."""

import ipywidgets as w

from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.alternative_list import AlternativeButton, AlternativeList
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.layout import close_widgets_of
from qwen3lab.widgets.explorers.alternatives_compute import Alternative, listed
from qwen3lab.widgets.explorers.controls import WIDE, Bindings
from qwen3lab.widgets.workbench.parts.branches import NO_MODEL
from qwen3lab.widgets.workbench.views.view import ViewedBench, show_only

BRANCH = later("write the reply on from this token instead")
IN_PROMPT = later("this token is of the prompt; a branch starts in the reply")


class AlternativesRow:
    """The likeliest tokens at the picked one, as buttons that write the reply on from there.

    Args:
        bench: the workbench.

    Attributes:
        buttons: the list on the page.
        shown: the alternatives of the buttons.
    """

    def __init__(self, bench: ViewedBench) -> None:
        self.bench, self.state, self.bindings = bench, bench.state, Bindings(bench.state)
        self.buttons = AlternativeList().add_class("q3-alternative-row")
        self.shown: tuple[Alternative, ...] = ()
        self.buttons.on_alternative(self.branch)
        self.bindings.watch(lambda _: self.draw(), ["recording", "run", "token", "status"])
        self.draw()

    @shows_drawing_errors
    def draw(self) -> None:
        """Show the alternatives of the picked token."""
        recording, token = self.state.shown, self.state.token
        found: tuple[Alternative, ...] | str = ()
        if recording is not None and 0 <= token < len(recording):
            found = listed(recording, token, self.bench.lab.tokenizer)
        self.shown = () if isinstance(found, str) else found
        why_not = self._why_not(token)
        self.buttons.show(
            [
                AlternativeButton(each.text, each.share, each.percent, each.is_written)
                for each in self.shown
            ],
            note=found if isinstance(found, str) else "",
            hint=why_not or tr(BRANCH),
            enabled=not why_not,
        )

    def branch(self, index: int) -> None:
        """Write the reply on from one of the alternatives."""
        if index < len(self.shown):
            self.bench.branches.try_to_write(self.state.token, self.shown[index].token_id)

    def close(self) -> None:
        """Follow nothing, and take the widgets out of memory."""
        self.bindings.unbind()
        close_widgets_of(self)

    def _why_not(self, token: int) -> str:
        """Why no branch can be written from a token; empty if one can."""
        chat = self.state.current
        if not self.bench.asks or chat is None:
            return tr(NO_MODEL)
        return tr(IN_PROMPT) if token < len(chat.prompt_ids) else ""


class BranchMenu:
    """The original reply and its branches; hidden until there is a branch.

    Args:
        bench: the workbench.

    Attributes:
        menu: the list.
    """

    def __init__(self, bench: ViewedBench) -> None:
        self.state, self.bindings = bench.state, Bindings(bench.state)
        self.menu = w.Dropdown(
            description=tr("reply"),
            tooltip=tr("The original reply and the branches of it; all views show the chosen one"),
            style=WIDE,
            layout=w.Layout(width="auto", display="none"),
        ).add_class("q3-branches")
        self.is_drawing = False
        self.menu.observe(lambda change: self.pick(change["new"]), "value")
        self.bindings.watch(lambda _: self.draw(), ["branches", "branch", "status"])
        self.draw()

    def draw(self) -> None:
        """List the replies, and choose the one that is shown."""
        state = self.state
        listed = [(_title(at, each.name), at) for at, each in enumerate(state.branches)]
        self.is_drawing = True
        try:
            if [*self.menu.options] != listed:
                self.menu.options = listed
            self.menu.value = state.branch if listed else None
        finally:
            self.is_drawing = False
        self.menu.disabled = state.status != "idle"
        show_only(len(listed) > 1, self.menu)

    def pick(self, number: int | None) -> None:
        """Show another reply in all views."""
        if not self.is_drawing and number is not None and number != self.state.branch:
            self.state.branch = number

    def close(self) -> None:
        """Follow nothing, and take the widgets out of memory."""
        self.bindings.unbind()
        close_widgets_of(self)


def _title(number: int, name: str) -> str:
    return f"{number}{tr(': ')}{name}" if number else tr(name)
