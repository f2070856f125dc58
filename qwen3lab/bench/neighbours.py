"""Busy neighbours: processes that keep a core busy, as a browser or another student does."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from qwen3lab.errors import BenchError

# It ends by itself when its parent has died. The first line says that it runs.
SPIN = """
import os
parent = os.getppid()
print("busy", flush=True)
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def busy_neighbours(n: int) -> Iterator[None]:
    """Within the block, `n` other processes compute all the time.

    Raises:
        BenchError: one of them did not start.
    """
    started: list[subprocess.Popen[str]] = []
    try:
        for _ in range(n):
            command = [sys.executable, "-S", "-c", SPIN]
            started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        for each in started:
            if each.stdout is None or not each.stdout.readline():
                raise BenchError("a busy neighbour did not start: measure with fewer of them")
        yield
    finally:
        for each in started:
            each.kill()
        for each in started:
            each.communicate()
