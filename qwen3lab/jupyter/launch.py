"""Opens JupyterLab on the notebooks, with the package's settings."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from qwen3lab.device.waiting import PASSIVE_WAITING
from qwen3lab.interrupts import HeldInterrupts
from qwen3lab.jupyter.working_copy import FIRST_NOTEBOOK, make_working_copy, working_folder
from qwen3lab.translation import language, tr

SETTINGS = Path(__file__).parent
SECONDS_TO_END = 5
"""Time for a server that got the interrupt itself."""


def launch(folder: Path | None = None, *, browser: bool = True, port: int | None = None) -> int:
    """Run JupyterLab until it exits.

    SIGTERM to this process stops JupyterLab, and so does SIGINT without a terminal. In a terminal
    Ctrl-C reaches JupyterLab itself, which asks whether to stop.

    Args:
        folder: to open; None opens a working copy of the package's notebooks.
        browser: open a browser as well.
        port: of the server; None lets JupyterLab choose.

    Returns:
        The exit code of JupyterLab.

    Raises:
        ImportError: JupyterLab is not installed.
        ValueError: the folder does not exist.
    """
    if find_spec("jupyterlab") is None:
        raise ImportError(tr("JupyterLab is not installed: run pip install 'qwen3lab[lab]'"))
    if folder is not None and not folder.is_dir():
        raise ValueError(
            tr("{folder} is not a folder: give the folder of your notebooks", folder=folder)
        )
    line = command(folder or make_working_copy(working_folder()), browser=browser, port=port)
    return run_server(line, environment())


def run_server(arguments: list[str], variables: dict[str, str]) -> int:
    """Start a server, and wait for its exit code; signals that end this process end it as well.

    A handler that finds no server yet is called again when there is one.
    """
    servers: list[subprocess.Popen[bytes]] = []
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        for server in servers:
            server.terminate()

    with _handled(signal.SIGTERM, stop):
        with HeldInterrupts():
            servers.append(subprocess.Popen(arguments, env=variables))
        if asked:
            servers[0].terminate()
        return _wait(servers[0])


@contextlib.contextmanager
def _handled(
    number: signal.Signals, handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Handle a signal within the block; in other threads than the main one, which cannot, don't."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, usual)


def _wait(server: subprocess.Popen[bytes]) -> int:
    """The server's exit code.

    Ctrl-C in a terminal reaches the server too, which asks whether to stop; so this process keeps
    waiting. Without a terminal the signal may have been sent to this process alone: the server is
    given time to end by itself, and is then stopped.
    """
    while True:
        try:
            return server.wait()
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                return _stopped(server)


def _stopped(server: subprocess.Popen[bytes]) -> int:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return server.wait(SECONDS_TO_END)
    server.terminate()
    return server.wait()


def command(folder: Path, *, browser: bool = True, port: int | None = None) -> list[str]:
    """Arguments that start JupyterLab in a folder, at the first notebook if it exists.

    It is the one in the language that is shown, where there is one.
    """
    arguments = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.resolve()}"]
    editions = (f"{language()}/{FIRST_NOTEBOOK}", FIRST_NOTEBOOK)
    for first in [name for name in editions if (folder / name).exists()][:1]:
        arguments.append(f"--LabApp.default_url=/lab/tree/{first}")
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
