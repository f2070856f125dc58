"""Files that are on the disk wholly or not at all."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from qwen3lab.errors import RecordingError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write a file: beside its place, which it takes once it is safely on the disk.

    Raises:
        RecordingError: it cannot be written. Nothing of it is left, and what was there stays.
    """
    part = Path(f"{path}.part")
    try:
        yield part
        _flush(part, os.O_RDWR)
        part.replace(path)
        with suppress(OSError):  # Not every system can do this for a folder.
            _flush(path.parent, os.O_RDONLY)
    except (SafetensorError, OSError) as error:
        raise RecordingError(
            f"{path} cannot be written ({error}): see that its folder is there and the disk has "
            "room, and try again"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()


def is_leftover(path: Path) -> bool:
    """Whether a process that was killed while it wrote may have left it: we, or safetensors."""
    return path.match("*.part") or path.match(".tmp*")


def _flush(path: Path, flags: int) -> None:
    """Wait until the disk has it: a crash of the machine may not take it back."""
    file = os.open(path, flags)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@dataclass(frozen=True)
class Files:
    """Safetensors files that belong together, each of which says so.

    Attributes:
        folder: that they are in.
        mark: that each carries.
        hooks: whose activations each holds, by the file's name; there may be none.
    """

    folder: Path
    mark: str
    hooks: Mapping[str, Sequence[str]]

    def save(self, name: str, tensors: dict[str, Tensor], **about: int) -> None:
        """Write one of them.

        Raises:
            RecordingError: it cannot be written.
        """
        notes = {note: str(value) for note, value in about.items()}
        with whole_file(self.folder / name) as part:
            save_file(tensors, part, metadata={"job": self.mark, "file": name, **notes})

    def has(self, name: str) -> bool:
        """Whether a file is there, whole, where it belongs, and holds all of its hooks."""
        try:
            with safe_open(self.folder / name, framework="pt") as file:
                marked = file.metadata() == {"job": self.mark, "file": name}
                return marked and set(file.keys()) == set(self.hooks[name])
        except (SafetensorError, OSError):
            return False
