"""Safetensors files of one job, each of which names the job in its metadata."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from qwen3lab.errors import RecordingError
from qwen3lab.storage.atomic_files import whole_file


@dataclass(frozen=True)
class Files:
    """Safetensors files of one job in one folder; the metadata of each names the job.

    Attributes:
        folder: of the files.
        mark: identifies the job; stored in each file.
        hooks: names of the tensors in each file, by file name; may be empty.
    """

    folder: Path
    mark: str
    hooks: Mapping[str, Sequence[str]]

    def save(self, name: str, tensors: dict[str, Tensor], **about: int) -> None:
        """Write one of the files.

        Args:
            name: of the file.
            tensors: its content.
            about: integers that are stored in its metadata.

        Raises:
            RecordingError: the file cannot be written.
        """
        notes = {note: str(value) for note, value in about.items()}
        with whole_file(self.folder / name, error=RecordingError) as part:
            save_file(tensors, part, metadata={"job": self.mark, "file": name, **notes})

    def has(self, name: str) -> bool:
        """True if the file exists, is complete, belongs to this job and holds all its tensors."""
        try:
            with safe_open(self.folder / name, framework="pt") as file:
                marked = file.metadata() == {"job": self.mark, "file": name}
                return marked and set(file.keys()) == set(self.hooks[name])
        except (SafetensorError, OSError):
            return False
