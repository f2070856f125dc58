"""One background thread for long work, so that the kernel can still handle the Stop button."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Worker(Generic[Result]):
    """Runs one job at a time in a background thread.

    Each job receives a `threading.Event` that is set when the job has to end.
    """

    def __init__(self) -> None:
        self.executor: ThreadPoolExecutor | None = None  # Made by the first job.
        self.cancel = threading.Event()
        self.future: Future[Result] | None = None

    def start(self, job: Callable[[threading.Event], Result]) -> None:
        """Cancel the running job, and run this one after it has ended."""
        self.cancel.set()
        self.cancel = cancel = threading.Event()
        if self.executor is None:
            self.executor = ThreadPoolExecutor(1, thread_name_prefix="qwen3lab")
        self.future = self.executor.submit(job, cancel)

    def stop(self) -> None:
        """Cancel the job: it ends early and returns its partial result."""
        self.cancel.set()

    def close(self) -> None:
        """Cancel the job, and end the thread after it; `start` begins a new one."""
        self.stop()
        if self.executor is not None:
            self.executor.shutdown(wait=False)
            self.executor = None

    def wait(self) -> Result | None:
        """Wait for the job and return its result; None without a job.

        A kernel interrupt cancels the job and returns its partial result.
        """
        if self.future is None:
            return None
        try:
            return self.future.result()
        except KeyboardInterrupt:
            self.stop()
            return self.future.result()


def raises_if_cancelled(cancel: threading.Event) -> Callable[..., None]:
    """A function that raises `CancelledError` after `cancel` is set; long work calls it often."""

    def check(*_: object) -> None:
        if cancel.is_set():
            raise CancelledError

    return check


class Throttle:
    """Limits updates to one per `interval` seconds."""

    def __init__(self, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval = interval
        self.clock = clock
        self.last = -float("inf")

    def ready(self) -> bool:
        """True if at least `interval` seconds have passed since it last returned True."""
        now = self.clock()
        if now - self.last < self.interval:
            return False
        self.last = now
        return True
