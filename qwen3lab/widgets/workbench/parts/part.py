"""What the work beside a run has in common."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.generation.reply import Chat
from qwen3lab.widgets.components.transcript import Chip
from qwen3lab.widgets.components.worker import Worker
from qwen3lab.widgets.workbench.state import WorkbenchState


@runtime_checkable
class AskingBench(Protocol):
    """The part of a `Workbench` that asks, and that parts ask with."""

    state: WorkbenchState
    lock: Any
    lab: Any
    asks: bool
    closed: bool
    is_showing: bool
    asked_options: dict[str, Any]
    others: dict[str, Any]
    asker: Any

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    @property
    def config(self) -> Qwen3Config:
        """The model's sizes."""
        ...

    def reply(self, question: str, *, temperature: float | None, **options: Any) -> Chat:
        """A reply, with the options of a run."""
        ...

    def ask_again(self) -> None:
        """Ask the question of the latest run again."""
        ...

    def begin(
        self, write: Callable[[int, threading.Event], Chat], chips: tuple[Chip, ...] = ()
    ) -> None:
        """Start a run of the same question whose reply `write` makes."""
        ...

    def show_reply(self, chat: Chat) -> None:
        """Show a reply to the same question as a new run."""
        ...

    def options_of_run(self) -> dict[str, Any]:
        """The options of the latest reply, with what its parts added."""
        ...


class Part:
    """Work of one view beside the run; it lives as long as its workbench.

    Work that takes long waits until the view's tab is opened: `needs` says that there is some, and
    `work` does it.

    Args:
        bench: the workbench.

    Attributes:
        name: of the view's tab.
        workers: the threads of the work.
    """

    name: ClassVar[str]

    def __init__(self, bench: AskingBench) -> None:
        self.bench, self.state, self.lock = bench, bench.state, bench.lock
        self.lab: Any = bench.lab
        self.workers: list[Worker[Any]] = []
        self.needs = False

    @property
    def is_open(self) -> bool:
        """True if the view's tab is the one that is shown."""
        return self.state.tab == self.name

    def check(self) -> None:
        """Raise a `ValueError` if the question cannot be asked."""

    def options(self) -> dict[str, Any]:
        """Options of the reply that is asked for next."""
        return {}

    def hooks(self) -> Sequence[str]:
        """Hooks to record with the reply that is asked for next, beyond attention and routing."""
        return ()

    def started(self) -> None:
        """A run has started: discard what belongs to the one before."""
        self.cancel()
        self.needs = False

    def finished(self, chat: Chat | None, *, stopped: bool) -> None:
        """A run has ended, or a reply or a recording was given.

        Args:
            chat: the reply; None for a recording.
            stopped: True if the person stopped the run: it then starts no further work.
        """

    def work(self) -> None:
        """Do the work that waited for the tab."""

    def work_if_open(self) -> None:
        """Do the work that waits, if the tab is shown."""
        if self.needs and self.is_open and not self.bench.closed:
            self.needs = False
            self.work()

    def stop(self) -> None:
        """Cancel what the Stop button stops."""
        self.cancel()

    def cancel(self) -> None:
        """Cancel all work."""
        for worker in self.workers:
            worker.stop()

    def wait(self) -> None:
        """Wait until the work has ended."""
        for worker in self.workers:
            worker.wait()

    def close(self) -> None:
        """Cancel the work, and end the threads when it has ended."""
        for worker in self.workers:
            worker.close()

    def _worker(self) -> Worker[Any]:
        worker: Worker[Any] = Worker()
        self.workers.append(worker)
        return worker

    def _set(self, run: int, /, **values: Any) -> None:
        """Set values of a run, unless there is a newer one."""
        with self.lock:
            if run == self.state.run:
                for name, value in values.items():
                    setattr(self.state, name, value)

    def _beside(
        self, worker: Worker[Any], job: Callable[[threading.Event], None], on_error: Callable
    ) -> None:
        """Generate a reply beside the run; Stop is enabled until it is complete."""

        def counted(cancel: threading.Event) -> None:
            try:
                if not cancel.is_set():
                    job(cancel)
            except Exception as error:
                on_error(error)
            finally:
                self._count(-1)

        self._count(1)
        worker.start(counted)

    def _count(self, by: int) -> None:
        with self.lock:
            self.state.beside += by
