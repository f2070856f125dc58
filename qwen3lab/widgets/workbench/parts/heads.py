"""Measures all heads of the run, for the attention view."""

import threading
from concurrent.futures import CancelledError

from qwen3lab.analysis.attention.profile import HeadProfile, head_profile
from qwen3lab.generation.reply import Chat
from qwen3lab.recording.recording import Recording
from qwen3lab.widgets.components.error_display import sentence, shows_drawing_errors
from qwen3lab.widgets.components.worker import Throttle, raises_if_cancelled
from qwen3lab.widgets.explorers.attention_state import WHOLE
from qwen3lab.widgets.workbench.parts.part import AskingBench, Part
from qwen3lab.widgets.workbench.timing import SECONDS_BETWEEN_UPDATES


class HeadsPart(Part):
    """The scores of all heads, measured in the background when the tab is opened."""

    name = "attention"

    def __init__(self, bench: AskingBench) -> None:
        super().__init__(bench)
        self.profile_worker = self._worker()

    @shows_drawing_errors
    def measure(self) -> None:
        """Start measuring all heads in the background; stop if that is running already."""
        if self.state.measuring:
            self.profile_worker.stop()
        elif self.state.recording is not None:
            self._measure(self.state.recording)

    def stop(self) -> None:
        """Do nothing: the measurement has a button of its own."""

    def finished(self, chat: Chat | None, *, stopped: bool) -> None:
        """Discard the scores of the recording before; new ones are measured when they are shown."""
        with self.lock:
            self.state.scores, self.state.window = None, WHOLE
            self.needs = self.state.recording is not None
            self.work_if_open()

    def work(self) -> None:
        """Measure all heads."""
        if self.state.recording is not None:
            self._measure(self.state.recording)

    def _measure(self, recording: Recording) -> None:
        state, throttle = self.state, Throttle(SECONDS_BETWEEN_UPDATES)

        def job(cancel: threading.Event) -> HeadProfile | None:
            check = raises_if_cancelled(cancel)

            def on_block(done: int, of: int) -> None:
                check()
                if throttle.ready():
                    state.measured = done / of

            try:
                state.measured, state.measuring = 0.0, True
                scores = head_profile(recording, progress=False, on_block=on_block)
                if state.recording is recording:
                    state.scores = scores
            except CancelledError:
                return None
            except Exception as error:
                state.drawing_error = sentence(error)
                raise
            finally:
                state.measuring = False
            return scores

        self.profile_worker.start(job)
