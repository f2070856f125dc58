"""The attention explorer: from a wall of heads to one map, one token, one window."""

import threading
from collections.abc import MutableMapping
from concurrent.futures import CancelledError
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from qwen3lab.analysis.attention.profile import HeadProfile, head_profile
from qwen3lab.generation.reply import Chat
from qwen3lab.recording.recording import Recording
from qwen3lab.widgets.components.error_display import sentence, shows_errors
from qwen3lab.widgets.components.worker import Throttle, Worker, ends_with
from qwen3lab.widgets.explorers.attention_panel import AttentionPanel
from qwen3lab.widgets.explorers.attention_state import WHOLE, AttentionState
from qwen3lab.widgets.explorers.explorer import SECONDS_BETWEEN_UPDATES, Asked, Explorer
from qwen3lab.widgets.explorers.state import ExplorerState


class Played:
    """A recording in the place of a lab: there is nothing to ask it."""

    def __init__(self, recording: Recording) -> None:
        self.name, self.config, self.tokenizer = recording.model_name, recording.config, None

    def chat(self, messages: str, **options: Any) -> Chat:
        """Refuse: a recording does not reply."""
        raise ValueError("this explorer shows a recording: give it a lab to ask questions")


class AttentionExplorer(Explorer):
    """Shows where every head looks, in a recording or in a model's replies.

    A wall of thumbnails opens a head; its map zooms into any window, exactly; pointing at a
    token of the text shades the tokens that it looks at, or those that look at it.

    Args:
        source: a lab, which is asked, or a recording with attention.
        options: as of `Explorer`, for a lab.

    Attributes:
        state: everything that is shown, to read or to set: `explorer.state.head = 2`.

    Raises:
        RecordingError: a recording without attention.
    """

    shown: ClassVar[MutableMapping[Any, Explorer]] = WeakValueDictionary()
    State: ClassVar[type[ExplorerState]] = AttentionState
    state: AttentionState

    def __init__(self, source: Asked | Recording, **options: Any) -> None:
        asks = not isinstance(source, Recording)
        super().__init__(Played(source) if isinstance(source, Recording) else source, **options)
        self.asks = asks
        self.measuring: Worker[HeadProfile | None] = Worker()
        self.state.observe(lambda _: self._take_run(), ["chat"])
        if isinstance(source, Recording):
            if not source.attention.layers:
                source.attention.pattern(0)  # Says what is missing.
            self.key = ("recording", id(source))
            self.state.run = 1
            self._take(source)

    def wait(self) -> Chat | None:
        """The reply of the run that is going on, or of the last one; heads and map are ready."""
        chat = super().wait()
        self.measuring.wait()
        if isinstance(self.view, AttentionPanel):
            self.view.maps.worker.wait()
        return chat

    def close(self) -> None:
        """Stop, and take the explorer out of the page."""
        super().close()  # First: a run that ends from now on is not measured.
        self.measuring.stop()

    @shows_errors
    def measure(self) -> None:
        """Measure all heads of what is shown, in the background; once more stops it."""
        if self.state.measuring:
            self.measuring.stop()
        elif self.state.recording is not None:
            self._measure(self.state.recording)

    def _view(self) -> AttentionPanel:
        view = AttentionPanel(
            self.lab.name, self.lab.config, self.state, self.examples, asks=self.asks
        )
        view.measure.on_click(lambda _: self.measure())
        return view

    def _take_run(self) -> None:
        chat = self.state.chat
        if chat is not None and chat.recording is not None:
            self._take(chat.recording)

    def _take(self, recording: Recording) -> None:
        """Look at another recording; its heads are measured in the background."""
        with self.lock:
            self.state.scores = None
            self.state.window = WHOLE
            self.state.recording = recording
            if not self.closed:
                self._measure(recording)

    def _measure(self, recording: Recording) -> None:
        state, throttle = self.state, Throttle(SECONDS_BETWEEN_UPDATES)

        def job(cancel: threading.Event) -> HeadProfile | None:
            check = ends_with(cancel)

            def on_block(done: int, of: int) -> None:
                check()
                if throttle.ready():
                    state.measured = done / of

            try:
                state.measured, state.measuring = 0.0, True
                found = head_profile(recording, progress=False, on_block=on_block)
                if state.recording is recording:
                    state.scores = found
            except CancelledError:
                return None
            except Exception as error:
                state.error = sentence(error)
                raise
            finally:
                state.measuring = False
            return found

        self.measuring.start(job)
