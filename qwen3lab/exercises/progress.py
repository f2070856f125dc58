"""A student's progress with the exercises, in one file of the working folder.

Only a folder that has the file gets entries, so that a check outside of a course writes nothing.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from qwen3lab.errors import ResultsError, StorageError
from qwen3lab.storage.atomic_files import write_text
from qwen3lab.storage.json_dataclasses import structure, unstructure
from qwen3lab.translation import tr

FILE = "course-progress.json"
FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """What a student did with one exercise.

    Attributes:
        tries: answers that were judged until one was right, that one included.
        hints: number of the last hint that was read; 0 for none.
        solved: True after a right answer.
    """

    tries: int = 0
    hints: int = 0
    solved: bool = False

    def after(self, *, hint: int = 0, solved: bool | None = None) -> "Entry":
        """The entry after a hint was read or an answer was judged; nothing counts once solved."""
        if self.solved:
            return self
        hints = max(self.hints, hint)
        if solved is None:
            return replace(self, hints=hints)
        return Entry(self.tries + 1, hints, solved)


@dataclass(frozen=True)
class Progress:
    """The entries of all exercises that were tried, by name.

    Attributes:
        exercises: the entries.
        format: of the file.
    """

    exercises: Mapping[str, Entry] = field(default_factory=dict)
    format: int = FORMAT


def start(folder: Path) -> None:
    """Begin a file of progress in a folder; an existing one stays.

    Raises:
        StorageError: it cannot be written.
    """
    if not (folder / FILE).exists():
        _write(folder, Progress())


def read(folder: Path) -> Progress:
    """The progress in a folder.

    Raises:
        ResultsError: the folder has no file of progress, or a damaged one.
    """
    path = folder / FILE
    if not path.is_file():
        raise ResultsError(
            tr(
                "{folder} has no {file}: open the notebooks with `qwen3lab lab`, which "
                "begins one, or name your folder of notebooks",
                folder=folder,
                file=FILE,
            )
        )
    try:
        found = structure(Progress, json.loads(path.read_bytes()))
    except (ValueError, OSError) as error:
        raise ResultsError(
            tr(
                "{path} cannot be read as progress ({error}): `qwen3lab course reset` "
                "keeps it aside and begins another",
                path=path,
                error=error,
            )
        ) from error
    if found.format != FORMAT:
        raise ResultsError(
            tr(
                "{path} has format {found}, expected {expected}: use the version of "
                "qwen3lab that wrote it",
                path=path,
                found=found.format,
                expected=FORMAT,
            )
        )
    return found


def note(name: str, *, hint: int = 0, solved: bool | None = None) -> None:
    """Enter a hint or a verdict into the working folder's file, if it has one.

    A file that cannot be read or written gives a warning: the verdict is shown all the same.
    """
    here = Path.cwd()
    # Notebooks in another language are in a folder of the working copy.
    folder = next((each for each in (here, here.parent) if (each / FILE).is_file()), None)
    if folder is None:
        return
    try:
        found = read(folder)
        entry = found.exercises.get(name, Entry()).after(hint=hint, solved=solved)
        _write(folder, Progress({**found.exercises, name: entry}))
    except (ResultsError, StorageError) as error:
        warnings.warn(tr("your progress was not saved: {error}", error=error), stacklevel=2)


def forget(folder: Path, names: Sequence[str]) -> None:
    """Remove the entries of these exercises.

    Raises:
        ResultsError: as in `read`.
        StorageError: the file cannot be written.
    """
    kept = {name: entry for name, entry in read(folder).exercises.items() if name not in names}
    _write(folder, Progress(kept))


def _write(folder: Path, progress: Progress) -> None:
    write_text(folder / FILE, json.dumps(unstructure(progress), indent=2) + "\n")
