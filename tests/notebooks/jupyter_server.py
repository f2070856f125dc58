"""A JupyterLab server for tests, with its own home folder and the package's settings."""

import contextlib
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qwen3lab.jupyter.launch import command, environment


@dataclass(frozen=True)
class Server:
    """Address, token and log file of a running JupyterLab."""

    url: str
    token: str
    log: Path

    def page(self, notebook: str) -> str:
        """Address of a notebook of the served folder, in a separate workspace."""
        name = Path(notebook).stem
        return f"{self.url}/lab/workspaces/{name}/tree/{notebook}?token={self.token}"


@contextlib.contextmanager
def jupyter_server(folder: Path, home: Path) -> Iterator[Server]:
    """Serve a folder until the `with` block ends."""
    port, token, log = free_port(), secrets.token_hex(8), home / "jupyter.log"
    home.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            _command(folder, port, token, home),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(home),
        )
        try:
            server = Server(f"http://127.0.0.1:{port}", token, log)
            wait_for_answer(f"{server.url}/api/status?token={token}", process, log)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=30)


def _command(folder: Path, port: int, token: str, home: Path) -> list[str]:
    """Command of `qwen3lab lab`, with folders separate from the user's JupyterLab."""
    return [
        *command(folder, browser=False, port=port),
        "--ip=127.0.0.1",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        f"--LabApp.user_settings_dir={home / 'settings'}",
        f"--LabApp.workspaces_dir={home / 'workspaces'}",
        "--LabApp.expose_app_in_browser=True",
    ]


def own_folders(home: Path) -> dict[str, str]:
    """Environment variables that keep Jupyter's files in a folder of their own."""
    folders = {"CONFIG_DIR": "config", "DATA_DIR": "data", "RUNTIME_DIR": "runtime"}
    own = {f"JUPYTER_{name}": str(home / folder) for name, folder in folders.items()}
    return own | {"HOME": str(home)}


def wait_for_answer(
    address: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 180
) -> None:
    """Wait until a server answers, with whatever status."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended:\n{log.read_text()}"
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"the server did not answer in {seconds} s:\n{log.read_text()}")


def _environment(home: Path) -> dict[str, str]:
    return environment() | own_folders(home) | {"HF_HUB_OFFLINE": "1"}


def free_port() -> int:
    """A port of this machine that no server uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
