"""Holds Ctrl-C back while state that belongs together is changed, and gives it on afterwards.

Python can raise KeyboardInterrupt after any call in the main thread. Where an interrupt in between
would leave half a change, the change runs inside of `HeldInterrupts`.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class HeldInterrupts:
    """Within the block, SIGINT is noted; at its end, the signal is given to its usual handler.

    The handler is exchanged by one call into C, so no interrupt comes between. Nothing is done in
    other threads, which get no interrupts, and where SIGINT is ignored or ends the process.

    Args:
        at_once: hold from the beginning of the block; if False, from the first call of `hold`.
        keep: drop an interrupt that was noted last, because the block's result is worth more.
    """

    def __init__(self, *, at_once: bool = True, keep: bool = False) -> None:
        self._at_once, self._keep = at_once, keep
        self._usual: Any = None
        self._came = False

    def __enter__(self) -> "HeldInterrupts":
        if self._at_once:
            self.hold()
        return self

    def hold(self) -> None:
        """Hold interrupts back from now on; it can be called again."""
        handler = signal.getsignal(signal.SIGINT)
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and callable(handler) and handler != self._note:
            self._usual = handler
            signal.signal(signal.SIGINT, self._note)

    def release(self) -> None:
        """Let interrupts come again, and the one that was held back, too."""
        if self._usual is None:
            return
        signal.signal(signal.SIGINT, self._usual)
        if self._came:
            self._came = False
            signal.raise_signal(signal.SIGINT)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._keep:
            self._came = False
        self.release()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True
