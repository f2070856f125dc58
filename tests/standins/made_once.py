"""Folders that are made once and found again by later test runs."""

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


def made(
    name: str,
    make: Callable[[Path], object],
    within: Path,
    *,
    depends_on: Iterable[str] = (),
    texts: Iterable[str] = (),
) -> Path:
    """The folder that `make` writes, inside `within`; made if it is not there.

    Other code in the files `depends_on`, other `texts` or another torch give another folder.
    """
    digest = hashlib.sha256(torch.__version__.encode())
    for content in (*(Path(path).read_text("utf-8") for path in depends_on), *texts):
        digest.update(content.encode())
    folder = within / f"{name}-{digest.hexdigest()[:12]}"
    with _one_at_a_time(within / f"{name}.lock"):
        if not folder.exists():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            make(part)
            part.rename(folder)
    return folder


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Two test processes do not make the same folder at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
