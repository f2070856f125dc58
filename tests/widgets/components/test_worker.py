"""The background worker cancels jobs, waits for them, and passes on their errors."""

import threading

import pytest

from qwen3lab.widgets.components.worker import Throttle, Worker


def test_a_throttle_allows_one_call_per_interval() -> None:
    times = iter([0.0, 0.05, 0.1, 0.15, 0.21, 1.0])
    throttle = Throttle(0.1, clock=lambda: next(times))
    assert [throttle.ready() for _ in range(6)] == [True, False, True, False, True, True]


def test_stop_sets_the_cancel_event_of_the_running_job() -> None:
    worker: Worker[str] = Worker()
    worker.start(lambda cancel: "stopped" if cancel.wait(timeout=20) else "never stopped")
    worker.stop()
    assert worker.wait() == "stopped"


def test_a_new_job_cancels_the_job_before_and_runs_after_it() -> None:
    worker: Worker[str] = Worker()
    ended: list[str] = []

    def first(cancel: threading.Event) -> str:
        assert cancel.wait(timeout=20)
        ended.append("first")
        return "first"

    def second(cancel: threading.Event) -> str:
        ended.append("second")
        return "cancelled" if cancel.is_set() else "second"

    worker.start(first)
    worker.start(second)
    assert worker.wait() == "second"
    assert ended == ["first", "second"]


def test_wait_raises_the_error_of_the_job() -> None:
    worker: Worker[str] = Worker()

    def fails(cancel: threading.Event) -> str:
        raise ValueError("no room")

    worker.start(fails)
    with pytest.raises(ValueError, match="no room"):
        worker.wait()


def test_wait_without_a_job_returns_none() -> None:
    assert Worker().wait() is None
