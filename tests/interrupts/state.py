"""The state of the process and of the lab that no interrupt may change."""

import gc
import json
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qwen3lab.storage.atomic_files import is_leftover

DESCRIPTORS = Path("/proc/self/fd")


@contextmanager
def interruptible(temporary: Path) -> Iterator[None]:
    """Python's own handler of SIGINT, and a folder of its own for temporary files.

    An interrupt inside a finaliser cannot be raised anywhere: Python reports it and goes on, and
    so do we, without the report.
    """
    temporary.mkdir(exist_ok=True)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    report, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    folder, tempfile.tempdir = tempfile.tempdir, str(temporary)
    try:
        yield
    finally:
        tempfile.tempdir, sys.unraisablehook = folder, report
        signal.signal(signal.SIGINT, handler)


def process_state() -> dict[str, Any]:
    """What a job may not leave changed in the process."""
    return {
        "gradients are on": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "default dtype": torch.get_default_dtype(),
        "handler of SIGINT": signal.getsignal(signal.SIGINT),
        "handler of SIGTERM": signal.getsignal(signal.SIGTERM),
        "open files": open_files(),
    }


def open_files() -> list[str]:
    """Names of the open regular files, where the system tells."""
    if not DESCRIPTORS.exists():
        return []
    found = []
    for descriptor in DESCRIPTORS.iterdir():
        try:
            name = str(descriptor.readlink())
        except OSError:
            continue
        if name.startswith("/") and not name.startswith(("/dev", "/proc")):
            found.append(name)
    return sorted(found)


def leftovers(folder: Path) -> list[Path]:
    """Temporary files in a folder; unreferenced generators are ended before."""
    gc.collect(0)
    temporary = folder / "tmp"
    return [
        path
        for path in folder.rglob("*")
        if is_leftover(path) or (temporary in path.parents and path.is_file())
    ]


def lock_is_free(lock: Any) -> bool:
    """True if another thread can take the lock."""
    taken: list[bool] = []

    def take() -> None:
        taken.append(lock.acquire(timeout=5))
        if taken[0]:
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return taken[0]


def plain(value: Any) -> Any:
    """A result in a form in which `==` compares bit for bit."""
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().flatten()
        return str(value.dtype), tuple(value.shape), flat.view(torch.uint8).numpy().tobytes()
    if is_dataclass(value) and not isinstance(value, type):
        return type(value).__name__, {
            f.name: plain(getattr(value, f.name)) for f in fields(value) if f.compare
        }
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return repr(value) if isinstance(value, float) else value


def contents(folder: Path, *, but: tuple[str, ...] = ()) -> dict[str, Any]:
    """What every file of a folder holds, by its path in it."""
    return {
        str(path.relative_to(folder)): content(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in but and not is_leftover(path)
    }


def content(path: Path) -> Any:
    """A file's bytes, without the random names that plotly gives to a page's parts.

    The header of a safetensors file is read, because its metadata has no order.
    """
    data = path.read_bytes()
    if path.suffix == ".safetensors" and len(data) > 8:
        start = 8 + int.from_bytes(data[:8], "little")
        return json.loads(data[8:start]), data[start:]
    return re.sub(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", b"name", data)
