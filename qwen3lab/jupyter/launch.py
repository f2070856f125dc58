"""Opens JupyterLab on the notebooks, with the package's settings."""

import contextlib
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import qwen3lab
from qwen3lab.device.waiting import PASSIVE_WAITING
from qwen3lab.storage.atomic_files import whole_file

SETTINGS = Path(__file__).parent
FIRST_NOTEBOOK = "00_start_here.ipynb"


def launch(folder: Path | None = None, *, browser: bool = True, port: int | None = None) -> int:
    """Run JupyterLab until it exits.

    Args:
        folder: to open; None opens the package's notebooks.
        browser: open a browser as well.
        port: of the server; None lets JupyterLab choose.

    Returns:
        The exit code of JupyterLab.

    Raises:
        ImportError: JupyterLab is not installed.
        ValueError: the folder does not exist.
    """
    if find_spec("jupyterlab") is None:
        raise ImportError("JupyterLab is not installed: run pip install 'qwen3lab[lab]'")
    if folder is not None and not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give the folder of your notebooks")
    arguments = command(folder or notebooks(), browser=browser, port=port)
    return _wait(subprocess.Popen(arguments, env=environment()))


def _wait(server: subprocess.Popen[bytes]) -> int:
    """The server's exit code.

    Ctrl-C reaches the server too, which asks whether to stop; so this process keeps waiting.
    """
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            return server.wait()


def command(folder: Path, *, browser: bool = True, port: int | None = None) -> list[str]:
    """Arguments that start JupyterLab in a folder, at the first notebook if it exists."""
    arguments = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.resolve()}"]
    if (folder / FIRST_NOTEBOOK).exists():
        arguments.append(f"--LabApp.default_url=/lab/tree/{FIRST_NOTEBOOK}")
    if not browser:
        arguments.append("--no-browser")
    if port is not None:
        arguments.append(f"--port={port}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")
    return arguments


def environment() -> dict[str, str]:
    """The user's environment variables, with JupyterLab settings and waiting of the package."""
    user_path = os.environ.get("JUPYTER_CONFIG_PATH")
    paths = [str(SETTINGS), *([user_path] if user_path else [])]
    return PASSIVE_WAITING | os.environ | {"JUPYTER_CONFIG_PATH": os.pathsep.join(paths)}


def notebooks(target: Path = Path("qwen3lab-notebooks")) -> Path:
    """The folder of notebooks: that of a checkout, else `target` with copies of the installed ones.

    The guide's pages are copied as well. Existing files in `target` are not overwritten.
    """
    package = Path(qwen3lab.__file__).parent
    checkout = package.parent / "notebooks"
    if (checkout / FIRST_NOTEBOOK).exists() and (package.parent / "pyproject.toml").exists():
        return checkout
    target.mkdir(exist_ok=True)
    shipped = package / "_notebooks"
    guide = [path for path in (shipped / "guide").rglob("*") if path.is_file()]
    for path in sorted([*shipped.glob("*.ipynb"), *guide]):
        copied = target / path.relative_to(shipped)
        if not copied.exists():
            copied.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(copied) as part:
                shutil.copyfile(path, part)
    return target
