"""One thread for long work, so that the kernel stays free to hear the Stop button."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Worker(Generic[Result]):
    """Runs one job at a time in its own thread; a job is handed the event that cancels it."""

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="qwen3lab")
        self.cancel = threading.Event()
        self.future: Future[Result] | None = None

    def start(self, job: Callable[[threading.Event], Result]) -> None:
        """Run the job; the one before it is cancelled first, and ends first."""
        self.cancel.set()
        self.cancel = cancel = threading.Event()
        self.future = self.executor.submit(job, cancel)

    def stop(self) -> None:
        """Ask the job to end; what it has made so far is its result."""
        self.cancel.set()

    def wait(self) -> Result | None:
        """The job's result, once it has ended; None if there was no job.

        An interrupt of the kernel stops the job and returns what it has made.
        """
        if self.future is None:
            return None
        try:
            return self.future.result()
        except KeyboardInterrupt:
            self.stop()
            return self.future.result()


def ends_with(cancel: threading.Event) -> Callable[..., None]:
    """To be called from time to time by long work: raises `CancelledError` once it shall end."""

    def check(*_: object) -> None:
        if cancel.is_set():
            raise CancelledError

    return check


class Throttle:
    """Says yes at most once per `interval` seconds."""

    def __init__(self, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval = interval
        self.clock = clock
        self.last = -float("inf")

    def ready(self) -> bool:
        """True if the interval has passed since it was last True."""
        now = self.clock()
        if now - self.last < self.interval:
            return False
        self.last = now
        return True
