"""The teacher's board: students' questions and answers side by side, read from a shared folder."""

import html
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets as w
from IPython.display import display

from qwen3lab.translation import later, tr
from qwen3lab.widgets.classroom.answers import Answer, AnswerFolder
from qwen3lab.widgets.components.layout import close_widgets_of, page

SECONDS = 3.0
"""Between two looks into the folder."""

MAX_ROWS = 300
"""Students that are listed; a page with more rows gets slow."""

MAX_REFUSED = 5
"""Sentences about refused files that are shown."""

VERDICTS = {
    "right": later("✓ right"),
    "wrong": later("✗ wrong"),
    "not checked": later("not checked"),
}
HEADS = (
    *(later("student"), later("question"), later("answer"), later("checked")),
    *(later("mode"), later("thinking tokens")),
)


class ClassBoard:
    """Shows the latest answer of each student, as the last expression of a cell.

    Students write theirs with `bench.share(folder, name="Li")`. Right and wrong are computed here,
    where the truth of a question of the embedded world can be. What students wrote is shown as
    plain text, and a file that is no answer is left out with a sentence.

    Args:
        folder: that the class shares.
        every: seconds between two looks into it; 0 only looks when **Refresh** is pressed.

    Attributes:
        answers: those of the latest look, by name.
        refused: a sentence for each file that was left out.

    Raises:
        StorageError: there is no such folder.

    Example:
        >>> import tempfile
        >>> from qwen3lab.widgets import ClassBoard
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     board = ClassBoard(folder)
        ...     board.refresh()
        ...     len(board.answers)
        0
    """

    def __init__(self, folder: str | Path, *, every: int | float = SECONDS) -> None:
        self.source, self.every = AnswerFolder(Path(folder)), every
        self.answers: list[Answer] = []
        self.refused: list[str] = []
        self.lock, self.closed = threading.RLock(), threading.Event()
        self.table, self.summary, self.problem = w.HTML(), w.HTML(), w.HTML()
        self.order = w.Dropdown(
            options=[(tr("by name"), "name"), (tr("by question"), "question")],
            description=tr("order"),
            tooltip=tr("Order of the students"),
        )
        self.again = w.Button(
            description=tr("Refresh"), icon="refresh", tooltip=tr("Look into the folder now")
        )
        self.again.on_click(lambda _: self.refresh())
        self.order.observe(lambda _: self.draw(), "value")
        row = w.Box([self.order, self.again, self.summary]).add_class("q3-row")
        self.root = page(row, self.problem, self.table)

    def refresh(self) -> None:
        """Look into the folder, and draw the board if something has changed."""
        with self.lock:
            try:
                found = self.source.read()
            except OSError as error:
                found = ([], [tr("the folder cannot be read: {reason}", reason=error.strerror)])
            if found != (self.answers, self.refused):
                self.answers, self.refused = found
                self.draw()

    def draw(self) -> None:
        """Draw the answers of the latest look."""
        name = self.order.value
        ordered = sorted(self.answers, key=lambda each: (getattr(each, str(name)), each.name))
        self.summary.value = html.escape(summary(self.answers))
        self.table.value = table(ordered[:MAX_ROWS])
        lines = [*self.refused[:MAX_REFUSED]]
        if len(self.refused) > MAX_REFUSED:
            lines.append(tr("and {n} more files", n=len(self.refused) - MAX_REFUSED))
        said = "".join(f"<div>{html.escape(line)}</div>" for line in lines)
        self.problem.value = f'<div class="q3-alert" role="alert">{said}</div>' if said else ""

    def close(self) -> None:
        """Stop looking into the folder, and remove the board from the page."""
        self.closed.set()
        close_widgets_of(self)

    def _ipython_display_(self) -> None:
        self.refresh()
        self.draw()
        display(self.root)
        if self.every > 0:
            threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self.closed.wait(self.every):
            self.refresh()


def summary(answers: Sequence[Answer]) -> str:
    """How many students there are, and how many answers are right."""
    verdicts = [each.verdict for each in answers]
    return tr(
        "{n} students: {right} right, {wrong} wrong, {others} not checked",
        n=len(answers),
        right=verdicts.count("right"),
        wrong=verdicts.count("wrong"),
        others=verdicts.count("not checked"),
    )


def table(answers: Sequence[Answer]) -> str:
    """The answers as an HTML table, all of their text escaped."""
    heads = "".join(f"<th>{html.escape(tr(head))}</th>" for head in HEADS)
    rows = "".join(map(_row, answers))
    return f'<table class="q3-class"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _row(answer: Answer) -> str:
    mode = tr("think first") if answer.thinking else tr("no thinking")
    verdict = answer.verdict
    cells: list[tuple[str, Any]] = [
        ("q3-class-name", answer.name),
        ("q3-class-text", answer.question),
        ("q3-class-text", answer.answer or tr("(no answer)")),
        (f"q3-class-{verdict.replace(' ', '-')}", tr(VERDICTS[verdict])),
        ("", mode),
        ("q3-class-number", f"{answer.thinking_tokens:,}"),
    ]
    found = (f'<td class="{name}" dir="auto">{html.escape(text)}</td>' for name, text in cells)
    return f"<tr>{''.join(found)}</tr>"
