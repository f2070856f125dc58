"""A student's own copy of the notebooks, with the progress, outside of the package."""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import qwen3lab
from qwen3lab.exercises import progress
from qwen3lab.exercises.tasks import tasks_of
from qwen3lab.storage.atomic_files import whole_file, write_text
from qwen3lab.translation import language, tr

FIRST_NOTEBOOK = "00_start_here.ipynb"
INSTALLED = "_notebooks"
"""Folder of the notebooks in an installed package."""

WORKING = "qwen3lab-notebooks"
KEPT = "kept"
"""Folder in the working copy for what a reset has replaced."""


def shipped_notebooks() -> Path:
    """The folder of the notebooks that belong to this package: of a checkout, or as installed."""
    package = Path(qwen3lab.__file__).parent
    checkout = package.parent / "notebooks"
    if (checkout / FIRST_NOTEBOOK).exists() and (package.parent / "pyproject.toml").exists():
        return checkout
    return package / INSTALLED


def shipped_books() -> list[Path]:
    """The notebooks of this package in the language that is shown, else in English."""
    shipped = shipped_notebooks()
    translated = sorted((shipped / language()).glob("[0-9]*.ipynb"))
    return translated or sorted(shipped.glob("[0-9]*.ipynb"))


def working_folder() -> Path:
    """The folder of the working copy: here, or in the home folder if this is the checkout.

    A copy inside of the checkout would be among the files that are under version control.
    """
    shipped = shipped_notebooks()
    here = Path.cwd()
    in_checkout = shipped.name != INSTALLED and here.is_relative_to(shipped.parent)
    return (Path.home() if in_checkout else here) / WORKING


def make_working_copy(folder: Path) -> Path:
    """Copy notebooks and guide to a folder, and begin a file of progress there.

    Only notebooks are copied, not the scripts that they are paired with. Existing files stay.

    Args:
        folder: of the copy; made if missing.

    Raises:
        StorageError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in shipped_files():
        if not (folder / name).exists():
            _copy(name, folder)
    progress.start(folder)
    return folder


def reset(folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """Restore notebooks of a working copy, and forget the progress with their exercises.

    Args:
        folder: of the copy.
        names: of notebooks, as `01_attention`; all if empty.

    Returns:
        The files that were kept aside, in the folder `kept`.

    Raises:
        ValueError: there is no such notebook, or the folder is no working copy.
        StorageError: a file cannot be written.
    """
    if not (folder / FIRST_NOTEBOOK).exists() and not (folder / progress.FILE).exists():
        raise ValueError(
            tr(
                "{folder} has no copy of the notebooks: give the folder that `qwen3lab lab` made",
                folder=folder,
            )
        )
    books = list(_books(names))
    kept = [_keep(folder, folder / progress.FILE)]
    kept += [_keep(folder, folder / name) for name in books]
    for name in books:
        _copy(name, folder)
    if names:
        _forget(folder, kept[0], names)
    else:
        progress.start(folder)
    return [path for path in kept if path is not None]


def shipped_files() -> list[Path]:
    """What students get: the notebooks of all languages and the guide, relative to their folder.

    Answers to the quizzes of the course, in a folder `teacher`, are left out.
    """
    shipped = shipped_notebooks()
    guide = [path for path in (shipped / "guide").rglob("*") if path.is_file()]
    guide = [path for path in guide if path.parent.name != "teacher"]
    found = [*shipped.glob("*.ipynb"), *shipped.glob("zh/*.ipynb"), *guide]
    return sorted(path.relative_to(shipped) for path in found)


def _books(names: Iterable[str]) -> Iterator[Path]:
    """The notebooks of these names, in all languages."""
    books = [path for path in shipped_files() if path.suffix == ".ipynb"]
    stems = dict.fromkeys(path.stem for path in books)
    for name in names or stems:
        stem = Path(name).stem
        if stem not in stems:
            raise ValueError(
                tr(
                    "there is no notebook {name!r}: choose from {choices}",
                    name=name,
                    choices=", ".join(stems),
                )
            )
        yield from (path for path in books if path.stem == stem)


def _copy(name: Path, folder: Path) -> None:
    source, target = shipped_notebooks() / name, folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if name.suffix != ".ipynb":
        with whole_file(target) as part:
            shutil.copyfile(source, part)
        return
    book = json.loads(source.read_bytes())
    # With this, saving the copy would write a script beside it.
    book["metadata"].pop("jupytext", None)
    write_text(target, json.dumps(book, indent=1, ensure_ascii=False) + "\n")


def _keep(folder: Path, path: Path) -> Path | None:
    """Move a file into the folder of kept ones, under a name that is not taken."""
    if not path.exists():
        return None
    to = folder / KEPT / path.relative_to(folder).parent
    to.mkdir(parents=True, exist_ok=True)
    numbered = (to / f"{path.stem}-{n}{path.suffix}" for n in range(1, 10_000))
    free = next(each for each in numbered if not each.exists())
    return path.replace(free)


def _forget(folder: Path, old: Path | None, names: Sequence[str]) -> None:
    """Keep the progress with all other notebooks."""
    if old is None:
        progress.start(folder)
        return
    shutil.copyfile(old, folder / progress.FILE)
    forgotten = [task.name for name in names for task in tasks_of(Path(name).stem)]
    progress.forget(folder, forgotten)
