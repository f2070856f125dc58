"""Files that are written completely or not at all.

The content goes into a temporary file in the same folder, is flushed to the disk, and then takes
the final name in one step. A reader, or a process that resumes after a crash, never sees a part.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_IMODE

from safetensors import SafetensorError

from qwen3lab.errors import Qwen3LabError, StorageError
from qwen3lab.interrupts import HeldInterrupts


@contextmanager
def whole_file(path: Path, *, error: type[Qwen3LabError] = StorageError) -> Iterator[Path]:
    """A temporary path to write to; the file gets its final name when the block ends.

    An existing file keeps its permissions; a new one gets those that the umask allows.

    Args:
        path: final name of the file.
        error: class of the exception if writing fails.

    Raises:
        Qwen3LabError: of the class `error`, if the file cannot be written. The temporary file is
            removed, and an existing file stays unchanged.
    """
    part = Path(f"{path}.part")
    try:
        yield part
        _set_permissions(part, path)
        _flush(part, os.O_RDWR)
        part.replace(path)
        with suppress(OSError):  # Some systems cannot flush a folder.
            _flush(path.parent, os.O_RDONLY)
    except (SafetensorError, OSError) as cause:
        raise error(
            f"{path} cannot be written ({cause}): see that its folder is there and the disk has "
            "room, and try again"
        ) from cause
    finally:
        with suppress(OSError):
            part.unlink()


def write_text(path: Path, text: str, *, error: type[Qwen3LabError] = StorageError) -> None:
    """Write a UTF-8 text file, completely or not at all.

    Args:
        path: of the file.
        text: its content, with line ends as they are.
        error: class of the exception if writing fails.

    Raises:
        Qwen3LabError: of the class `error`, if the file cannot be written.
    """
    with whole_file(path, error=error) as part:
        part.write_bytes(text.encode())


def is_leftover(path: Path) -> bool:
    """True for a temporary file of a killed process, written by `whole_file` or safetensors."""
    return path.match("*.part") or path.match(".tmp*")


def _set_permissions(part: Path, path: Path) -> None:
    """Replace the permissions that safetensors sets, which allow only the owner to read."""
    if path.exists():
        part.chmod(S_IMODE(path.stat().st_mode))
        return
    # Creating a file applies the umask; reading the umask itself would change it for all threads.
    probe = Path(f"{part}.part")
    try:
        probe.open("wb").close()  # `touch` leaves the file open if an interrupt comes.
        part.chmod(S_IMODE(probe.stat().st_mode))
    finally:
        probe.unlink(missing_ok=True)


def _flush(path: Path, flags: int) -> None:
    """Block until a file or folder is on the disk, so that it survives a power failure."""
    with HeldInterrupts():  # One between opening and the next line would leave the file open.
        file = os.open(path, flags)
        try:
            os.fsync(file)
        finally:
            os.close(file)
