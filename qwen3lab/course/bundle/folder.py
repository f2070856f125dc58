"""Writes the folder, goes on where a run was interrupted, and checks what is there."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from qwen3lab.course.bundle.closure import Wheel, run_pip, wheels_for
from qwen3lab.course.bundle.own_wheel import own_wheel, requirements_of
from qwen3lab.course.bundle.targets import CPU_INDEX, LARGE, Target
from qwen3lab.errors import StorageError
from qwen3lab.jupyter.working_copy import shipped_notebooks
from qwen3lab.storage.atomic_files import write_text
from qwen3lab.translation import tr

FORMAT = 1
LIST = "bundle.json"
"""Lists every file of the folder with its size and its SHA-256."""

STICK = Path(__file__).parent / "stick"
EXTRAS = ("lab", "export")
BLOCK = 2**20
MEGABYTE = 10**6
Note = Callable[[str], None]


def write_bundle(
    folder: Path,
    machines: Sequence[Target],
    *,
    wheel: Path | None = None,
    constraints: Sequence[str] = (),
    note: Note = print,
) -> None:
    """Write a folder from which the package installs without a network, and check it.

    A second call goes on: wheels that are there already, with the right hash, stay.

    Args:
        folder: for the bundle; made if missing.
        machines: those that students have.
        wheel: of this package; None builds one.
        constraints: versions to take, such as `torch==2.13.0`, beside the version of torch
            in this environment.
        note: called with one line for each step.

    Raises:
        StorageError: pip finds no wheel, or a file is damaged.
    """
    _say_sizes(folder, machines, note)
    wheels = folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    own = own_wheel(wheels, wheel)
    needed: dict[str, list[Wheel]] = {}
    for machine in machines:
        limits = [*constraints, *_tested(constraints)]
        note(tr("{machine}: asking which wheels it needs ...", machine=machine))
        needed[str(machine)] = wheels_for(machine, requirements_of(own), EXTRAS, limits)
        _refuse_cuda(machine, needed[str(machine)])
        _download(machine, needed[str(machine)], wheels, note)
    _remove_others(wheels, {own.name, *(w.file for each in needed.values() for w in each)})
    _copy_rest(folder)
    _write_list(folder, machines, needed, own.name)
    note(check_bundle(folder))


def check_bundle(folder: Path) -> str:
    """Compare every file of a bundle with the list in it, and say that all is well.

    Raises:
        StorageError: a file is missing or damaged, or there is no list.
    """
    listed = _list_of(folder)
    total = 0
    for name, entry in listed["files"].items():
        path = folder / name
        if not path.is_file():
            raise StorageError(
                tr(
                    "{name} is missing in {folder}: make the bundle again; it goes on",
                    name=name,
                    folder=folder,
                )
            )
        if sha256(path) != entry["sha256"]:
            raise StorageError(
                tr(
                    "{name} in {folder} is damaged: delete it, and make the bundle again",
                    name=name,
                    folder=folder,
                )
            )
        total += path.stat().st_size
    return tr(
        "{n} files, {size:,.0f} MB, all as listed",
        n=len(listed["files"]),
        size=total / MEGABYTE,
    )


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
    return found.hexdigest()


def _list_of(folder: Path) -> dict[str, Any]:
    try:
        listed = json.loads((folder / LIST).read_text("utf-8"))
        names = list(listed["files"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StorageError(
            tr(
                "{folder} is no bundle: its {list} cannot be read ({error})",
                folder=folder,
                list=LIST,
                error=error,
            )
        ) from error
    outside = [n for n in names if PurePosixPath(n).is_absolute() or ".." in PurePosixPath(n).parts]
    if outside:
        raise StorageError(
            tr(
                "{list} names a file outside of the folder: {file!r}",
                list=LIST,
                file=outside[0],
            )
        )
    return listed


def _say_sizes(folder: Path, machines: Sequence[Target], note: Note) -> None:
    for machine in machines:
        note(
            tr(
                "{machine}: about {megabytes} MB",
                machine=machine,
                megabytes=machine.platform.megabytes,
            )
        )
    have = sum(path.stat().st_size for path in (folder / "wheels").glob("*.whl"))
    total = sum(machine.platform.megabytes for machine in machines)
    there = folder if folder.exists() else folder.absolute().parent
    free = shutil.disk_usage(there).free if there.exists() else 0
    note(
        tr(
            "together at most {total} MB; {have:,.0f} MB are there already, {free:,.0f} MB "
            "are free",
            total=total,
            have=have / MEGABYTE,
            free=free / MEGABYTE,
        )
    )


def _tested(given: Sequence[str]) -> list[str]:
    """The version of torch in this environment, unless another one is given."""
    if any(re.match(rf"{LARGE}\W", line) for line in given):
        return []
    return [f"{LARGE}=={metadata.version(LARGE).partition('+')[0]}"]


def _refuse_cuda(machine: Target, needed: Sequence[Wheel]) -> None:
    """Refuse a torch that brings CUDA along, which takes gigabytes and which no laptop needs."""
    found = [each.name for each in needed if each.name.startswith("nvidia-")]
    if found:
        raise StorageError(
            tr(
                "{machine}: pip found only a torch with CUDA ({n} packages), since {index} "
                "did not answer: try again where it is reached",
                machine=machine,
                n=len(found),
                index=CPU_INDEX,
            )
        )


def _download(machine: Target, needed: Sequence[Wheel], wheels: Path, note: Note) -> None:
    missing = [each for each in needed if not _is_there(wheels / each.file, each.sha256)]
    note(
        tr(
            "{machine}: {n} wheels, {missing} of them to download",
            machine=machine,
            n=len(needed),
            missing=len(missing),
        )
    )
    large = [each for each in missing if machine.index_options(each.name)]
    for group in (large, [each for each in missing if each not in large]):
        if group:
            _fetch(machine, group, wheels)


def _fetch(machine: Target, group: Sequence[Wheel], wheels: Path) -> None:
    with TemporaryDirectory() as folder:
        lines = Path(folder) / "requirements.txt"
        lines.write_text("\n".join(each.line for each in group), "utf-8")
        options = ["--no-deps", "--require-hashes", "--dest", str(wheels), "--requirement"]
        chosen = [*machine.pip_options, *machine.index_options(group[0].name)]
        run_pip(
            ["download", *options, str(lines), *chosen],
            tr("for {machine}", machine=machine),
            shown=True,
        )


def _is_there(path: Path, digest: str) -> bool:
    return path.is_file() and sha256(path) == digest


def _remove_others(wheels: Path, needed: set[str]) -> None:
    """Remove wheels of an earlier bundle, which pip would choose from, too."""
    for path in wheels.glob("*.whl"):
        if path.name not in needed:
            path.unlink()


def _copy_rest(folder: Path) -> None:
    """The notebooks with the guide, and what installs them."""
    hidden = shutil.ignore_patterns(".*", "__pycache__", "teacher*")
    shutil.copytree(shipped_notebooks(), folder / "notebooks", ignore=hidden, dirs_exist_ok=True)
    for path in STICK.iterdir():
        if path.is_file() and path.suffix != ".pyc":
            shutil.copyfile(path, folder / path.name)
    (folder / "install.sh").chmod(0o755)


def _write_list(
    folder: Path, machines: Sequence[Target], needed: dict[str, list[Wheel]], own: str
) -> None:
    listed = {
        "format": FORMAT,
        "kind": "qwen3lab bundle",
        "extras": list(EXTRAS),
        "machines": [
            {
                "platform": each.platform.name,
                "system": each.platform.system,
                "machine": each.platform.machine,
                "python": each.python,
                "wheels": [own, *(wheel.file for wheel in needed[str(each)])],
            }
            for each in machines
        ],
        "files": {name: _entry(folder / name) for name in _names(folder)},
    }
    write_text(folder / LIST, json.dumps(listed, indent=1) + "\n")


def _names(folder: Path) -> Iterable[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(name.as_posix() for name in found if name.as_posix() != LIST)


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}
