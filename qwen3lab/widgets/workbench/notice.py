"""The notice at an answer that is outside of an embedded model's world, with examples to click."""

import html
from typing import Any

import ipywidgets as w

from qwen3lab.checkpoints.embedded import FIRST_EDITION, edition_of, is_embedded
from qwen3lab.generation.suggested import OUTSIDE_EXAMPLES
from qwen3lab.translation import tr
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.layout import close_tree, close_widgets_of
from qwen3lab.widgets.explorers.controls import Bindings
from qwen3lab.widgets.explorers.notice_compute import Notice, notice_of
from qwen3lab.widgets.workbench.views.view import ViewedBench, show_only


class AnswerNotice:
    """Says below a reply that it is outside of the model's world or unsure; else hidden.

    Hidden while the model is changed, too: then it is the changes that make it unsure.

    Args:
        bench: the workbench.

    Attributes:
        root: the notice on the page.
        shown: what it says; None while it is hidden.
    """

    def __init__(self, bench: ViewedBench) -> None:
        self.bench, self.state, self.bindings = bench, bench.state, Bindings(bench.state)
        self.text, self.examples = w.HTML(), w.Box().add_class("q3-notice-examples")
        self.root = w.VBox([self.text, self.examples]).add_class("q3-notice")
        self.applies = bench.asks and _knows_the_world(bench.lab.tokenizer)
        self.shown: Notice | None = None
        self.bindings.watch(lambda _: self.draw(), ["chat", "run", "status", "changes"])
        self.draw()

    @shows_drawing_errors
    def draw(self) -> None:
        """Show what there is to say about the latest reply."""
        chat = self.state.current
        inside = [each for each in self.bench.examples if each not in OUTSIDE_EXAMPLES]
        found = None
        answers = self.state.status == "idle" and not self.state.changes
        if self.applies and chat is not None and answers:
            found = notice_of(chat, self.state.asked, inside)
        if found != self.shown:
            self.shown = found
            self._show(found)
        show_only(found is not None, self.root)

    def ask(self, question: str) -> None:
        """Ask one of the examples."""
        self.state.question = question
        self.bench.start()

    def close(self) -> None:
        """Follow nothing, and take the widgets out of memory."""
        self.bindings.unbind()
        close_widgets_of(self)

    def _show(self, notice: Notice | None) -> None:
        old = self.examples.children
        self.examples.children = tuple(map(self._button, notice.examples if notice else ()))
        for button in old:
            close_tree(button)
        if notice is None:
            self.text.value = ""
            return
        said, least, world = map(html.escape, (notice.text, notice.least, notice.world))
        summary = html.escape(tr("What it knows"))
        folded = f"<details><summary>{summary}</summary>{world}</details>"
        line = f'{said} <span class="q3-hint">{least}</span>'
        self.text.value = f'<div role="status">{line}{folded}</div>'

    def _button(self, question: str) -> w.Button:
        button = w.Button(description=question, tooltip=tr("Ask: {question}", question=question))
        button.on_click(lambda _: self.ask(question))
        return button


def _knows_the_world(tokenizer: Any) -> bool:
    """True for the embedded models, but their first edition, whose world is another one."""
    return is_embedded(tokenizer) and edition_of(tokenizer) > FIRST_EDITION
