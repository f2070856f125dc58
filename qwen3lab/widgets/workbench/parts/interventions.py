"""The changes in force: adds and removes them, and keeps the reply without them to compare."""

import threading
from typing import Any

import torch

from qwen3lab.analysis.alignment import Alignment, alignment
from qwen3lab.generation.reply import Chat
from qwen3lab.recording.rendered_logits import logits_hook
from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.error_display import sentence
from qwen3lab.widgets.explorers.given_reply import about_dtype
from qwen3lab.widgets.workbench.changes import UNCHANGED, Change, check_exists, with_change
from qwen3lab.widgets.workbench.parts.largest_change import LargestChanges
from qwen3lab.widgets.workbench.parts.part import AskingBench, Part

NO_BASELINE = later("there is no run without the changes yet: ask with a change in force first")
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
        self.changes = LargestChanges(self.state)
        self.aligned: Alignment | None = None
        self.state.observe(lambda _: self._leave(), ["token"])
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

    def jump(self) -> None:
        """Pick the token whose prediction the changes moved most; again, the next one."""
        state = self.state
        try:
            if state.shown is None or state.baseline is None or state.baseline.recording is None:
                raise ValueError(tr(NO_BASELINE))
            if self.aligned is None:
                names = (tr("with the changes"), tr(UNCHANGED))
                self.aligned = alignment(state.shown, state.baseline.recording, names=names)
            state.changed_most = self.changes.jump(self.aligned)
        except Exception as error:
            state.change_error = sentence(error)

    def note_dtype(self, recorded_in: torch.dtype, runs_in: torch.dtype) -> None:
        """Say that the reply is of another dtype than the lab; compare no change with it.

        Args:
            recorded_in: the dtype of the reply.
            runs_in: that of the lab.
        """
        self.state.error = about_dtype(recorded_in, runs_in)
        self.plain = None

    def started(self) -> None:
        """Discard the reply to compare with."""
        super().started()
        self._forget()
        self.state.baseline = None

    def cancel(self) -> None:
        """Cancel the reply without the changes."""
        super().cancel()
        self.state.asking_baseline = False

    def _forget(self) -> None:
        self.changes.clear()
        self.aligned = None
        self.state.changed_most = ""

    def _leave(self) -> None:
        """Another token is picked: what a jump said is over."""
        self.state.changed_most = ""

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
        hooks = (logits_hook(self.bench.config),)  # To compare predictions, too.

        def job(cancel: threading.Event) -> None:
            found = self.bench.reply(question, record=hooks, cancel=cancel, **options)
            if cancel.is_set():
                self._set(run, change_error=tr(STOPPED), asking_baseline=False)
                return
            self._set(run, baseline=found, asking_baseline=False)
            with self.lock:
                self.plain = (question, options, found)

        def failed(error: Exception) -> None:
            self._set(run, change_error=sentence(error), asking_baseline=False)

        self.state.asking_baseline = True
        self._beside(self.worker, job, failed)
