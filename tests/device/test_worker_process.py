"""A worker answers lines; one that exceeds a limit is ended, and the next request is answered."""

import os
import signal
import time

import pytest

from qwen3lab.device.worker_process import WorkerProcess

SCRIPT = """
import sys
print("ready", flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
"""


@pytest.fixture
def worker(tmp_path):
    (tmp_path / "worker.py").write_text(SCRIPT, "utf-8")
    worker = WorkerProcess(tmp_path / "worker.py", seconds=1, max_memory_bytes=2**28)
    yield worker
    worker.close()


@pytest.mark.parametrize(
    "request_line", ["9**(9**9)", "len(bytes(2**30))", "sys.exit()", "__import__('os').abort()"]
)
def test_a_request_over_a_limit_has_no_reply_and_the_next_one_has(worker, request_line):
    assert worker.ask("1 + 1") == "2"
    start = time.monotonic()
    assert worker.ask(request_line) is None
    assert time.monotonic() - start < 20
    assert worker.ask("2 + 1") == "3"


def test_an_interrupted_request_does_not_answer_the_next(worker):
    assert worker.ask("1 + 1") == "2"

    def interrupt(number, frame):
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            worker.ask("9**(9**9)")
    finally:
        signal.signal(signal.SIGALRM, old)
    assert worker.ask("2 + 1") == "3"


def test_a_script_that_does_not_start_has_no_reply(tmp_path):
    (tmp_path / "worker.py").write_text("import nothing_of_this_name", "utf-8")
    worker = WorkerProcess(tmp_path / "worker.py", seconds=1, max_memory_bytes=2**28)
    assert worker.ask("1") is None


def test_closing_ends_the_process(worker):
    assert worker.ask("1 + 1") == "2"
    pid = worker.process.pid
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
