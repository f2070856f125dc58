"""The attention explorer: all heads as thumbnails, one head's map, and the text."""

import threading
from collections.abc import MutableMapping
from concurrent.futures import CancelledError
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from qwen3lab.analysis.attention.profile import HeadProfile, head_profile
from qwen3lab.generation.reply import Chat
from qwen3lab.generation.sampling import Sampling
from qwen3lab.generation.suggested import EMBEDDED, Suggested
from qwen3lab.recording.recording import Recording
from qwen3lab.widgets.components.error_display import sentence, shows_errors
from qwen3lab.widgets.components.worker import Throttle, Worker, raises_if_cancelled
from qwen3lab.widgets.explorers.attention_panel import AttentionPanel
from qwen3lab.widgets.explorers.attention_state import WHOLE, AttentionState
from qwen3lab.widgets.explorers.explorer import SECONDS_BETWEEN_UPDATES, ChatModel, Explorer
from qwen3lab.widgets.explorers.state import ExplorerState


class RecordedModel:
    """Stands in for the model when the explorer shows a recording; it cannot reply."""

    def __init__(self, recording: Recording) -> None:
        self.name, self.config, self.tokenizer = recording.model_name, recording.config, None

    def chat(self, messages: str, **options: Any) -> Chat:
        """Raises an error: a recording cannot reply."""
        raise ValueError(
            "this explorer shows a recording and cannot ask questions: create it with a lab"
        )

    @property
    def suggested(self) -> Suggested:
        """Settings that no reply uses."""
        return EMBEDDED

    def chat_sampling(self, messages: str, *, thinking: bool | None = None) -> Sampling:
        """Greedy; no reply is sampled."""
        return Sampling.greedy()


class AttentionExplorer(Explorer):
    """Shows the attention of every head, for a recording or for a model's replies.

    Click a thumbnail to open the attention map of a head, and drag over the map to zoom into a
    window of exact weights. Point at a token of the text to shade the tokens that it attends to,
    or the tokens that attend to it.

    Args:
        source: a lab to ask questions, or a recording with attention.
        options: keyword arguments of `Explorer`, for a lab.

    Attributes:
        state: the values shown, which can be read and set: `explorer.state.head = 2`.

    Raises:
        RecordingError: the recording has no attention.
    """

    shown: ClassVar[MutableMapping[Any, Explorer]] = WeakValueDictionary()
    State: ClassVar[type[ExplorerState]] = AttentionState
    state: AttentionState

    def __init__(self, source: ChatModel | Recording, **options: Any) -> None:
        asks = not isinstance(source, Recording)
        super().__init__(
            RecordedModel(source) if isinstance(source, Recording) else source, **options
        )
        self.asks = asks
        self.profile_worker: Worker[HeadProfile | None] = Worker()
        self.state.observe(lambda _: self._take_run(), ["chat"])
        self._take_run()  # A reply that was given.
        if isinstance(source, Recording):
            if not source.attention.layers:
                source.attention.pattern(0)  # Raises an error that names the missing hook points.
            self.key = ("recording", id(source))
            self.state.run = 1
            self._take(source)

    def wait(self) -> Chat | None:
        """Wait for the run, the head scores and the map; return the reply."""
        chat = super().wait()
        self.profile_worker.wait()
        if isinstance(self.view, AttentionPanel):
            self.view.maps.worker.wait()
        return chat

    def close(self) -> None:
        """Stop all work, and remove the explorer from the page."""
        super().close()  # First, so that the heads of a run that ends now are not measured.
        self.profile_worker.stop()

    @shows_errors
    def measure(self) -> None:
        """Start measuring all heads in the background; stop if that is running already."""
        if self.state.measuring:
            self.profile_worker.stop()
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
        """Show another recording, and measure its heads in the background."""
        with self.lock:
            self.state.scores = None
            self.state.window = WHOLE
            self.state.recording = recording
            if not self.closed:
                self._measure(recording)

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
                state.error = sentence(error)
                raise
            finally:
                state.measuring = False
            return scores

        self.profile_worker.start(job)
