"""Safetensors files of one job, each of which names the job in its metadata."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from qwen3lab.errors import RecordingError
from qwen3lab.storage.atomic_files import whole_file
from qwen3lab.storage.checked_tensors import CheckedTensors, open_tensors, save_checked
from qwen3lab.storage.tensor_header import StoredTensor


@dataclass(frozen=True)
class Files:
    """Safetensors files of one job in one folder; the metadata of each names the job.

    Attributes:
        folder: of the files.
        mark: identifies the job; stored in each file.
        hooks: names of the tensors in each file, by file name; may be empty.
        check: raises `ValueError` if the dtypes or shapes of a file do not fit the job.
        needs_checksums: False if files without checksums are read, too.
    """

    folder: Path
    mark: str
    hooks: Mapping[str, Sequence[str]]
    check: Callable[[str, Mapping[str, StoredTensor]], None]
    needs_checksums: bool = True

    def save(self, name: str, tensors: dict[str, Tensor], **about: int) -> None:
        """Write one of the files, with a checksum for each prompt's part of a tensor.

        Args:
            name: of the file.
            tensors: its content.
            about: integers that are stored in its metadata.

        Raises:
            RecordingError: the file cannot be written.
        """
        notes = {note: str(value) for note, value in about.items()}
        metadata = {"job": self.mark, "file": name, **notes}
        with whole_file(self.folder / name, error=RecordingError) as part:
            save_checked(tensors, part, metadata, by_row=True)

    @contextmanager
    def open(self, name: str) -> Iterator[CheckedTensors]:
        """Open one of the files to read some of its tensors.

        Raises:
            ValueError: the file is damaged, is of another job, or has other tensors.
            OSError: it is missing, or cannot be read.
        """
        with open_tensors(self.folder / name) as file:
            if file.metadata.get("job") != self.mark or file.metadata.get("file") != name:
                raise ValueError("it is a file of another recording")
            if self.needs_checksums and not file.has_checksums:
                raise ValueError("its checksums are missing")
            if name in self.hooks and file.stored.keys() != set(self.hooks[name]):
                raise ValueError("it holds other tensors")
            self.check(name, file.stored)
            yield file

    def has(self, name: str) -> bool:
        """True if the file exists, is complete, belongs to this job and holds all its tensors."""
        try:
            with self.open(name):
                return True
        except (ValueError, OSError):
            return False
