"""Text files that grow line by line, such as JSON Lines.

A process that is killed while it appends leaves a last line without a line break. Readers ignore
such a line; `drop_partial_line` removes it before the next append.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qwen3lab.errors import StorageError


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Append lines to a file and flush them to the disk; a missing file is created.

    Args:
        path: of the file.
        lines: without line breaks.

    Raises:
        StorageError: the lines cannot be written; the file is as before.
    """
    data = "".join(f"{line}\n" for line in lines).encode()
    before = path.stat().st_size if path.exists() else 0
    try:
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with suppress(OSError):  # A part of a line would be glued to the next one.
            os.truncate(path, before)
        raise StorageError(
            f"{path} cannot be appended to ({error}): see that the disk has room, and try again"
        ) from error


def read_lines(path: Path) -> list[bytes]:
    """All complete lines, without their line breaks.

    Raises:
        ValueError: the path is a folder, a pipe or a device.
        OSError: the file cannot be read.
    """
    check_regular(path)
    return path.read_bytes().split(b"\n")[:-1]


def check_regular(path: Path) -> None:
    """Refuse folders, and pipes and devices, whose reading may not end; a missing file passes.

    Raises:
        ValueError: the path is something else than a file.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path.name} is not a regular file: expected one with lines of text")


def drop_partial_line(path: Path) -> None:
    """Cut the file after its last line break; earlier bytes are not written again."""
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end < len(data):
        os.truncate(path, end)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other writers out of a file while the block runs; a missing file is created empty.

    Raises:
        StorageError: another process or thread writes the file, or it cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("rb" if path.exists() else "ab")
    except OSError as error:
        raise StorageError(f"{path} cannot be opened ({error}): give another path") from error
    with file:
        try:
            _lock(file.fileno())
        except BlockingIOError as error:
            raise StorageError(
                f"{path} is being written by another run: wait for its end, or give another path"
            ) from error
        yield


def _lock(file: int) -> None:
    """Lock an open file until it is closed; systems and disks without locks do nothing.

    Raises:
        BlockingIOError: another open file holds the lock.
    """
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # Some network file systems have no locks.
        return
