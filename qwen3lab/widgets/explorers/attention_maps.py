"""Renders attention maps without blocking: a long text gets a preview first, then the full map."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass

from qwen3lab.analysis.map_windows import MapWindow, window
from qwen3lab.recording.recording import Recording
from qwen3lab.widgets.components.worker import Worker, raises_if_cancelled

MAX_SYNCHRONOUS_WEIGHTS = 2**24
"""Largest number of weights to render in the callback itself: it takes about 50 ms."""

PREVIEW_SIDE = 400
"""Rows and columns of a preview."""

MAX_CACHED_MAPS = 24
"""Largest number of cached maps; each takes 4 MB at most."""


@dataclass(frozen=True)
class MapRequest:
    """The map to render.

    Attributes:
        layer: the model's layer number.
        head: number of the query head.
        rows: first and end query; None for all.
        columns: first and end key; None for all.
        how: pooling of a large map, "max" or "mean".
    """

    layer: int
    head: int
    rows: tuple[int, int] | None
    columns: tuple[int, int] | None
    how: str


class MapRenderer:
    """Renders attention maps of one recording, and caches the latest ones.

    Args:
        show: draws a map; called with a preview or the full map, and from the background thread
            when the full map is ready.
        on_error: called with an error of the background thread.
    """

    def __init__(
        self, show: Callable[[MapRequest, MapWindow], None], on_error: Callable[[Exception], None]
    ) -> None:
        self._show, self._on_error = show, on_error
        self._recording: Recording | None = None
        self._cache: OrderedDict[MapRequest, MapWindow] = OrderedDict()
        self.lock = threading.RLock()  # The background thread and callbacks share the cache.
        self.worker: Worker[None] = Worker()

    def show(self, recording: Recording, request: MapRequest) -> None:
        """Show a map, and cancel the request before.

        Raises:
            RecordingError: no such layer or head.
            ValueError: a window outside the text.
        """
        with self.lock:
            self.worker.stop()
            if recording is not self._recording:
                self._recording = recording
                self._cache.clear()
            if request in self._cache:
                self._cache.move_to_end(request)
                self._show(request, self._cache[request])
            elif _n_weights(recording, request) <= MAX_SYNCHRONOUS_WEIGHTS:
                self._add(request, _render(recording, request))
            else:
                self._show(
                    request, _render(recording, request, max_side=PREVIEW_SIDE, sampled=True)
                )
                self.worker.start(lambda cancel: self._render_all(recording, request, cancel))

    def wait(self) -> None:
        """Wait for the rendering in the background."""
        self.worker.wait()

    def close(self) -> None:
        """Cancel the rendering in the background, and forget the recording."""
        self.worker.close()
        with self.lock:
            self._recording = None
            self._cache.clear()

    def _render_all(
        self, recording: Recording, request: MapRequest, cancel: threading.Event
    ) -> None:
        try:
            rendered = _render(recording, request, on_block=raises_if_cancelled(cancel))
            with self.lock:
                if not cancel.is_set():
                    self._add(request, rendered)
        except CancelledError:
            return
        except Exception as error:
            self._on_error(error)

    def _add(self, request: MapRequest, rendered: MapWindow) -> None:
        self._cache[request] = rendered
        if len(self._cache) > MAX_CACHED_MAPS:
            self._cache.popitem(last=False)
        self._show(request, rendered)


def _render(
    recording: Recording,
    request: MapRequest,
    *,
    max_side: int | None = None,
    sampled: bool = False,
    on_block: Callable[[int, int], None] | None = None,
) -> MapWindow:
    side = {} if max_side is None else {"max_side": max_side}
    return window(
        recording,
        request.layer,
        request.head,
        rows=request.rows,
        columns=request.columns,
        how=request.how,
        sampled=sampled,
        on_block=on_block,
        **side,
    )


def _n_weights(recording: Recording, request: MapRequest) -> int:
    """Upper bound of the number of weights to compute: queries times keys."""
    first, end = request.rows or (0, len(recording))
    return (end - first) * end
