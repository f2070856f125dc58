"""Text files that grow line by line, such as JSON Lines.

A process that is killed while it appends leaves a last line without a line break. Readers ignore
such a line; `drop_partial_line` removes it before the next append.
"""

import os
from collections.abc import Iterable
from pathlib import Path


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Append lines to a file and flush them; the file is created if it does not exist.

    Args:
        path: of the file.
        lines: without line breaks.
    """
    data = "".join(f"{line}\n" for line in lines).encode()
    with path.open("ab") as file:
        file.write(data)
        file.flush()


def read_lines(path: Path) -> list[str]:
    """All complete lines, without their line breaks."""
    return [line.decode() for line in path.read_bytes().split(b"\n")[:-1]]


def drop_partial_line(path: Path) -> None:
    """Cut the file after its last line break; earlier bytes are not written again."""
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end < len(data):
        os.truncate(path, end)
