import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from qwen3lab.jupyter import launch as module
from qwen3lab.jupyter.launch import command, environment, launch
from qwen3lab.jupyter.working_copy import FIRST_NOTEBOOK

ROOT = Path(__file__).parents[2]


def test_the_first_notebook_is_opened(tmp_path):
    (tmp_path / FIRST_NOTEBOOK).touch()
    line = command(tmp_path, browser=False, port=9999)
    assert f"--ServerApp.root_dir={tmp_path}" in line
    assert f"--LabApp.default_url=/lab/tree/{FIRST_NOTEBOOK}" in line
    assert {"--no-browser", "--port=9999"} <= set(line)


def test_the_chinese_edition_is_opened_where_chinese_is_shown(tmp_path, chinese):
    (tmp_path / FIRST_NOTEBOOK).touch()
    assert f"--LabApp.default_url=/lab/tree/{FIRST_NOTEBOOK}" in command(tmp_path)
    (tmp_path / "zh").mkdir()
    (tmp_path / "zh" / FIRST_NOTEBOOK).touch()
    assert f"--LabApp.default_url=/lab/tree/zh/{FIRST_NOTEBOOK}" in command(tmp_path)


def test_a_folder_without_the_first_notebook_opens_at_its_root(tmp_path):
    line = command(tmp_path)
    assert not any("default_url" in part for part in line)
    assert "--no-browser" not in line


def test_the_users_own_settings_stay_in_effect(monkeypatch):
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/mine")
    assert environment()["JUPYTER_CONFIG_PATH"].endswith(":/mine")
    monkeypatch.delenv("JUPYTER_CONFIG_PATH")
    assert ":" not in environment()["JUPYTER_CONFIG_PATH"]


def test_threads_of_kernels_sleep_while_they_wait_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert environment()["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert environment()["OMP_WAIT_POLICY"] == "active"


def test_the_wheel_contains_the_notebooks(tmp_path):
    built = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path)]
    ran = subprocess.run([*built, str(ROOT)], capture_output=True, text=True, check=False)
    if ran.returncode and "connection" in ran.stderr.lower():
        pytest.skip("building a wheel needs the build backend from a package index")
    assert ran.returncode == 0, ran.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert f"qwen3lab/_notebooks/{FIRST_NOTEBOOK}" in names
    assert f"qwen3lab/_notebooks/zh/{FIRST_NOTEBOOK}" in names
    assert "qwen3lab/_notebooks/guide/howto/load.md" in names
    assert "qwen3lab/py.typed" in names
    assert "qwen3lab/tiny/models/tiny-moe/model.safetensors" in names
    assert not any(name.startswith(("tests/", ".ci/")) for name in names)


def test_a_missing_folder_or_jupyterlab_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="is not a folder"):
        launch(tmp_path / "none")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'qwen3lab\[lab\]'"):
        launch(tmp_path)


ASKS = """
import time
try:
    print("up", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)  # the time in which a user answers the question
    raise SystemExit(7)
"""
LAUNCHES = """
import sys
from qwen3lab.jupyter import launch as module
module.command = lambda folder, **options: [sys.executable, "-c", {asks!r}]
module.make_working_copy = lambda folder: folder
raise SystemExit(module.launch())
"""


SERVES = """
import os, time
print(os.getpid(), flush=True)
time.sleep(60)
"""
DEAF = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN){SERVES}"


@pytest.mark.skipif(sys.platform == "win32", reason="signals to a group are those of POSIX")
@pytest.mark.parametrize(
    ("serves", "sent", "code"),
    [
        (SERVES, signal.SIGTERM, -signal.SIGTERM),
        (DEAF, signal.SIGTERM, -signal.SIGTERM),
        (DEAF, signal.SIGINT, -signal.SIGTERM),
    ],
)
def test_a_signal_to_the_launcher_alone_stops_the_server(serves, sent, code):
    line = [sys.executable, "-c", LAUNCHES.format(asks=serves)]
    options = {"stdout": subprocess.PIPE, "stdin": subprocess.DEVNULL, "cwd": ROOT}
    with subprocess.Popen(line, start_new_session=True, **options) as launched:
        assert launched.stdout is not None
        server = int(launched.stdout.readline())
        launched.send_signal(sent)
        assert launched.wait(timeout=60) == code % 256
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="signals to a group are those of POSIX")
def test_after_an_interrupt_the_launcher_waits_for_the_server():
    line = [sys.executable, "-c", LAUNCHES.format(asks=ASKS)]
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, start_new_session=True, cwd=ROOT
    ) as launched:
        assert launched.stdout is not None and launched.stdout.readline() == b"up\n"
        os.killpg(launched.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
        assert launched.wait(timeout=60) == 7
