"""The changes in force: adds and removes them, and keeps the reply without them to compare."""

import threading
from typing import Any

from qwen3lab.generation.reply import Chat
from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.error_display import sentence
from qwen3lab.widgets.workbench.changes import Change, check_exists, with_change
from qwen3lab.widgets.workbench.parts.part import AskingBench, Part

STOPPED = later("you stopped the reply without the changes: there is no comparison")


class InterventionsPart(Part):
    """The list of changes of the model, and the same question asked without them.

    The reply without changes is that of the run before, if it had the same question and settings;
    else it is generated beside the run.
    """

    name = "changes"

    def __init__(self, bench: AskingBench) -> None:
        super().__init__(bench)
        self.worker = self._worker()
        self.plain: tuple[str, dict[str, Any], Chat] | None = None

    def add(self, change: Change, *, ask: bool = False) -> bool:
        """Put a change in force, in place of one of the same part; say why if it is impossible.

        Args:
            change: of the model.
            ask: True to ask the question of the latest run again.

        Returns:
            False if the model has no such part.
        """
        state = self.state
        try:
            check_exists(change, self.bench.config)
        except Exception as error:
            state.change_error = sentence(error)
            return False
        state.change_error = ""
        state.changes = with_change(state.changes, change)
        if ask:
            self.ask()
        return True

    def remove(self, change: Change) -> None:
        """Take a change out of force; the next run is without it."""
        self.state.change_error = ""
        self.state.changes = tuple(each for each in self.state.changes if each != change)

    def ask(self) -> None:
        """Ask the question of the latest run again, with the changes in force."""
        try:
            self.bench.ask_again()
        except ValueError as error:
            self.state.change_error = sentence(error)

    def started(self) -> None:
        """Discard the reply to compare with."""
        super().started()
        self.state.baseline = None

    def finished(self, chat: Chat | None, *, stopped: bool) -> None:
        """Find the reply without the changes: that of the run before, or one beside the run."""
        state, asked = self.state, dict(self.bench.asked_options)
        # A branch is no reply to the question alone.
        if chat is None or chat.chosen or not self.bench.asks or stopped:
            return
        if not state.asked_changes:
            self.plain = (state.asked, asked, chat)
        elif self.plain is not None and self.plain[:2] == (state.asked, asked):
            state.baseline = self.plain[2]
        else:
            self._ask_without()

    def _ask_without(self) -> None:
        run, question, options = self.state.run, self.state.asked, dict(self.bench.asked_options)

        def job(cancel: threading.Event) -> None:
            found = self.bench.reply(question, record=True, cancel=cancel, **options)
            if cancel.is_set():
                self._set(run, change_error=tr(STOPPED))
                return
            self._set(run, baseline=found)
            with self.lock:
                self.plain = (question, options, found)

        self._beside(self.worker, job, lambda e: self._set(run, change_error=sentence(e)))
