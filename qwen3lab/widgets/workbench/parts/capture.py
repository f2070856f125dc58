"""Records hooks that a run did not keep, for the raw view."""

import threading

from torch import Tensor

from qwen3lab.generation.reply import Chat
from qwen3lab.translation import tr
from qwen3lab.widgets.components.error_display import sentence, shows_drawing_errors
from qwen3lab.widgets.workbench.changes import in_force
from qwen3lab.widgets.workbench.parts.part import AskingBench, Part

MAX_CAPTURED = 4
"""Hooks that are kept besides those of the run; the oldest one is dropped for another."""

MAX_AUTOMATIC_PARAMETERS = 10_000_000
"""Largest model whose hooks are recorded without a click."""


class CapturePart(Part):
    """One hook of the run at a time, recorded in one more pass where the run did not keep it.

    Attributes:
        found: what was recorded since the run, by the hook's name.
    """

    name = "raw"

    def __init__(self, bench: AskingBench) -> None:
        super().__init__(bench)
        self.worker = self._worker()
        self.found: dict[str, Tensor] = {}
        self.state.observe(lambda _: self._chosen(), ["hook"])

    def started(self) -> None:
        """Discard what was recorded of the run before."""
        super().started()
        self.state.capturing = False
        self._discard()

    def finished(self, chat: Chat | None, *, stopped: bool) -> None:
        """Discard what was recorded of the run before, and record the chosen hook again."""
        self._discard()
        self._chosen()

    def work(self) -> None:
        """Record the chosen hook, if that is quick."""
        is_quick = self.bench.config.n_params <= MAX_AUTOMATIC_PARAMETERS
        if is_quick and self.state.shown is not None and self.value(self.state.hook) is None:
            self.capture()

    def value(self, hook: str) -> Tensor | None:
        """The activation of a hook, read only; None if it has not been recorded."""
        recording = self.state.recording
        if recording is None:
            return None
        return recording.raw(hook) if hook in recording else self.found.get(hook)

    @shows_drawing_errors
    def capture(self) -> None:
        """Record the chosen hook, in one more pass over the conversation."""
        recording, hook = self.state.shown, self.state.hook
        if recording is None:
            raise ValueError(tr("there is no run yet: ask a question first"))
        if not self.bench.asks:
            raise ValueError(
                tr("{hook} was not recorded, and a recording alone cannot run again", hook=hook)
            )
        run, edits = self.state.run, in_force(self.lab, self.state.asked_changes)

        def job(cancel: threading.Event) -> None:
            self._set(run, capturing=True)
            try:
                ids = recording.token_ids.tolist()
                again = self.lab.record(ids, capture=[hook], edits=edits)
                if not cancel.is_set() and run == self.state.run:
                    self._keep(hook, again.raw(hook))
            except Exception as error:
                self._set(run, drawing_error=sentence(error))
            finally:
                self._set(run, capturing=False)

        self.worker.start(job)

    def _chosen(self) -> None:
        self.needs = self.bench.asks and self.state.recording is not None
        self.work_if_open()

    def _keep(self, hook: str, value: Tensor) -> None:
        with self.lock:
            self.found[hook] = value
            while len(self.found) > MAX_CAPTURED:
                del self.found[next(iter(self.found))]
            self.state.captured += 1

    def _discard(self) -> None:
        self.found.clear()
        self.state.captured = 0
