"""Compares mathematical expressions in a process of its own: `graders` starts this file.

Reads a JSON list of two expressions a line, and writes 1 if they are equal, else 0. An expression
such as 9^{9^{9^9}} would compute without end: the process that starts this one limits its time and
memory, and ends it.
"""

import json
import sys
from typing import Any


def main() -> None:
    """Answer comparisons until the input ends."""
    from math_verify import parse, verify

    # The limits of the process replace the library's, which cannot stop a single long operation.
    reading: dict[str, Any] = {"parsing_timeout": None, "raise_on_error": False}
    comparing: dict[str, Any] = {"timeout_seconds": None, "raise_on_error": False}
    replies, sys.stdout = sys.stdout, sys.stderr
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        try:
            right, given = (parse(f"${side}$", **reading) for side in json.loads(line))
            equal = bool(verify(right, given, **comparing))
        except Exception:  # Whatever the library cannot read is not equal.
            equal = False
        print(int(equal), file=replies, flush=True)


if __name__ == "__main__":
    del sys.path[0]  # The folder of this file: its modules are not meant to be imported by name.
    main()
