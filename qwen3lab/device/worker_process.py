"""A process for work that an untrusted file asks for, limited in time and memory.

The process reads one request a line and writes one reply a line. One that exceeds a limit is
ended; the next request starts a new one.
"""

import atexit
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

START_SECONDS = 120
"""Time limit of the start, which imports libraries."""
READY = "ready"
"""First line that a worker writes."""


class WorkerProcess:
    """Runs a script that answers lines by lines; a new process is started after one has ended.

    Args:
        script: its first line of output is `READY`; then it answers each line with one line.
        seconds: time limit of a request.
        max_memory_bytes: limit of the address space, on systems that have one.
    """

    def __init__(self, script: Path, *, seconds: int, max_memory_bytes: int) -> None:
        self.script, self.seconds, self.max_memory_bytes = script, seconds, max_memory_bytes
        self.lock = threading.Lock()
        self.process: subprocess.Popen[str] | None = None
        self.owner = 0
        atexit.register(self.close)

    def ask(self, request: str) -> str | None:
        """The reply to a request of one line; None if the process ended over it."""
        with self.lock:
            reply = ""
            try:
                process = self._running()
                reply = self._exchange(process, request, self.seconds)
                return reply or None
            except BrokenPipeError:
                return None
            finally:
                # After a limit or an interrupt: a later reply must not be taken for the next.
                if not reply:
                    self.close()

    def close(self) -> None:
        """End the process, if it is one of ours."""
        process, self.process = self.process, None
        if process is not None and self.owner == os.getpid():
            process.kill()
            process.communicate()

    @staticmethod
    def _exchange(process: subprocess.Popen[str], request: str, seconds: int) -> str:
        """Write a request, unless it is empty, and read a line; "" if the process was ended."""
        assert process.stdin is not None and process.stdout is not None
        timer = threading.Timer(seconds, process.kill)
        timer.daemon = True
        timer.start()
        try:
            if request:
                process.stdin.write(f"{request}\n")
                process.stdin.flush()
            return process.stdout.readline().strip()
        finally:
            timer.cancel()

    def _running(self) -> subprocess.Popen[str]:
        if self.process is None or self.owner != os.getpid():
            self.owner = os.getpid()
            self.process = subprocess.Popen(
                [sys.executable, str(self.script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,  # Ctrl-C reaches this process only.
            )
            self._limit(self.process.pid)
            if self._exchange(self.process, "", START_SECONDS) != READY:
                raise BrokenPipeError
        return self.process

    def _limit(self, pid: int) -> None:
        with suppress(ImportError, AttributeError, ValueError, OSError):  # Not on every system.
            import resource

            hard = resource.prlimit(pid, resource.RLIMIT_AS)[1]
            unlimited = hard == resource.RLIM_INFINITY
            limit = self.max_memory_bytes if unlimited else min(hard, self.max_memory_bytes)
            resource.prlimit(pid, resource.RLIMIT_AS, (limit, hard))
            resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
