"""Opens JupyterLab on the notebooks, with the package's settings."""

import contextlib
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import qwen3lab

HERE = Path(__file__).parent
FIRST = "00_start_here.ipynb"


def launch(folder: Path | None = None, *, browser: bool = True, port: int | None = None) -> int:
    """Run JupyterLab until it is closed; gives its exit code.

    Raises:
        ImportError: JupyterLab is not installed.
        ValueError: the folder does not exist.
    """
    if find_spec("jupyterlab") is None:
        raise ImportError("JupyterLab is not installed: run pip install 'qwen3lab[lab]'")
    if folder is not None and not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give the folder of your notebooks")
    line = command(folder or notebooks(), browser=browser, port=port)
    return _wait(subprocess.Popen(line, env=environment()))


def _wait(server: subprocess.Popen[bytes]) -> int:
    """The server's exit code. It gets a Ctrl-C itself, and asks what is meant by it."""
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            return server.wait()


def command(folder: Path, *, browser: bool = True, port: int | None = None) -> list[str]:
    """The command that opens JupyterLab on a folder, at the first notebook if it is there."""
    line = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.resolve()}"]
    if (folder / FIRST).exists():
        line.append(f"--LabApp.default_url=/lab/tree/{FIRST}")
    if not browser:
        line.append("--no-browser")
    if port is not None:
        line.append(f"--port={port}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        line.append("--allow-root")
    return line


def environment() -> dict[str, str]:
    """The environment in which JupyterLab finds the package's settings beside the person's."""
    before = os.environ.get("JUPYTER_CONFIG_PATH")
    paths = [str(HERE), *([before] if before else [])]
    return os.environ | {"JUPYTER_CONFIG_PATH": os.pathsep.join(paths)}


def notebooks(target: Path = Path("qwen3lab-notebooks")) -> Path:
    """The checkout's own notebooks, or copies of the installed ones in `target`.

    The guide's pages come along. Files that exist in `target` stay as they are.
    """
    package = Path(qwen3lab.__file__).parent
    checkout = package.parent / "notebooks"
    if (checkout / FIRST).exists() and (package.parent / "pyproject.toml").exists():
        return checkout
    target.mkdir(exist_ok=True)
    shipped = package / "_notebooks"
    guide = [path for path in (shipped / "guide").rglob("*") if path.is_file()]
    for path in sorted([*shipped.glob("*.ipynb"), *guide]):
        copied = target / path.relative_to(shipped)
        if not copied.exists():
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copied)
    return target
