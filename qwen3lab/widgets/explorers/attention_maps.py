"""Maps of heads, at once whatever the length: a first look, and the whole map when it is there."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass

from qwen3lab.analysis.map_windows import MapWindow, window
from qwen3lab.recording.recording import Recording
from qwen3lab.widgets.components.worker import Worker, ends_with

AT_ONCE = 2**24
"""Weights that are rendered while the person waits: about a twentieth of a second."""

GLANCE = 400
"""Rows and columns of a first look."""

KEPT = 24
"""Maps that are kept: 4 MB each at most."""


@dataclass(frozen=True)
class Wanted:
    """Which map: a head, a window (all of it if None), and what stands for many cells."""

    layer: int
    head: int
    rows: tuple[int, int] | None
    columns: tuple[int, int] | None
    how: str


class Maps:
    """Renders the maps of one recording at a time, and keeps the last ones.

    Args:
        show: draws what was wanted; called at once, and from another thread when what a first look
            stood for is ready.
        on_error: told what went wrong in that thread.
    """

    def __init__(
        self, show: Callable[[Wanted, MapWindow], None], on_error: Callable[[Exception], None]
    ) -> None:
        self._show, self._on_error = show, on_error
        self._recording: Recording | None = None
        self._kept: OrderedDict[Wanted, MapWindow] = OrderedDict()
        self.lock = threading.RLock()  # Between a map that is ready and one that is asked for.
        self.worker: Worker[None] = Worker()

    def show(self, recording: Recording, wanted: Wanted) -> None:
        """Show a map, and forget what was asked for before.

        Raises:
            RecordingError: no such layer or head.
            ValueError: a window outside the text.
        """
        with self.lock:
            self.worker.stop()
            if recording is not self._recording:
                self._recording = recording
                self._kept.clear()
            if wanted in self._kept:
                self._kept.move_to_end(wanted)
                self._show(wanted, self._kept[wanted])
            elif _n_weights(recording, wanted) <= AT_ONCE:
                self._keep(wanted, _rendered(recording, wanted))
            else:
                self._show(wanted, _rendered(recording, wanted, max_side=GLANCE, sampled=True))
                self.worker.start(lambda cancel: self._finish(recording, wanted, cancel))

    def stop(self) -> None:
        """End what goes on in the background."""
        self.worker.stop()

    def _finish(self, recording: Recording, wanted: Wanted, cancel: threading.Event) -> None:
        try:
            found = _rendered(recording, wanted, on_block=ends_with(cancel))
            with self.lock:
                if not cancel.is_set():
                    self._keep(wanted, found)
        except CancelledError:
            return
        except Exception as error:
            self._on_error(error)

    def _keep(self, wanted: Wanted, found: MapWindow) -> None:
        self._kept[wanted] = found
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        self._show(wanted, found)


def _rendered(
    recording: Recording,
    wanted: Wanted,
    *,
    max_side: int | None = None,
    sampled: bool = False,
    on_block: Callable[[int, int], None] | None = None,
) -> MapWindow:
    side = {} if max_side is None else {"max_side": max_side}
    return window(
        recording,
        wanted.layer,
        wanted.head,
        rows=wanted.rows,
        columns=wanted.columns,
        how=wanted.how,
        sampled=sampled,
        on_block=on_block,
        **side,
    )


def _n_weights(recording: Recording, wanted: Wanted) -> int:
    """Queries by the keys that have to be read for them."""
    first, end = wanted.rows or (0, len(recording))
    return (end - first) * end
