"""Compares mathematical expressions in a process of its own: `graders` starts this file.

Reads a JSON list of two expressions a line, and writes 1 if they are equal, else 0. An expression
such as 9^{9^{9^9}} would compute without end, so a comparison ends the process after its time limit
or at its memory limit; the process that reads then sees the end of the output.
"""

import json
import signal
import sys
from contextlib import suppress
from typing import Any

SECONDS = 5
"""Time limit of a comparison."""
MAX_MEMORY_BYTES = 2**31


def main() -> None:
    """Answer comparisons until the input ends."""
    with suppress(ImportError, ValueError):  # Some systems have no such limit.
        _limit_memory()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # Ends the process, also in a long operation.
    from math_verify import parse, verify

    # The time limit below replaces the library's, which cannot stop a single long operation.
    reading: dict[str, Any] = {"parsing_timeout": None, "raise_on_error": False}
    comparing: dict[str, Any] = {"timeout_seconds": None, "raise_on_error": False}
    for line in sys.stdin:
        signal.alarm(SECONDS)
        try:
            right, given = (parse(f"${side}$", **reading) for side in json.loads(line))
            equal = bool(verify(right, given, **comparing))
        except Exception:  # Whatever the library cannot read is not equal.
            equal = False
        signal.alarm(0)
        print(int(equal), flush=True)


def _limit_memory() -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = MAX_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, MAX_MEMORY_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    del sys.path[0]  # The folder of this file: its modules are not meant to be imported by name.
    main()
