"""What installs from the folder: it needs Python alone, and leaves a student's work as it is."""

import ast
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qwen3lab.course.bundle.folder import STICK, sha256

MACHINES = [
    {"platform": "windows", "system": "Windows", "machine": "AMD64", "python": "3.12"},
    {"platform": "linux", "system": "Linux", "machine": "x86_64", "python": "3.11"},
]


def load(path: Path):
    spec = importlib.util.spec_from_file_location("stick_install", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def stick(tmp_path):
    """A copy of the installer beside a wheel and a notebook, with their list."""
    folder = tmp_path / "stick"
    shutil.copytree(STICK, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("wheels/qwen3lab-1.0-py3-none-any.whl", "notebooks/guide/index.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    files = {
        path.relative_to(folder).as_posix(): {"sha256": sha256(path)}
        for path in folder.rglob("*")
        if path.is_file()
    }
    wheels = ["qwen3lab-1.0-py3-none-any.whl"]
    machines = [each | {"wheels": wheels} for each in MACHINES]
    listed = {"extras": ["lab"], "files": files, "machines": machines}
    (folder / "bundle.json").write_text(json.dumps(listed, indent=1))
    return folder


def test_it_imports_the_standard_library_alone():
    tree = ast.parse((STICK / "install.py").read_text("utf-8"))
    names = [n for node in ast.walk(tree) if isinstance(node, ast.Import) for n in node.names]
    froms = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {n.name for n in names} | set(froms) <= sys.stdlib_module_names


def test_it_installs_without_an_index_from_this_folder_only(stick, tmp_path, monkeypatch):
    module, ran = load(stick / "install.py"), []
    monkeypatch.setattr(module, "run", lambda command, variables=None: ran.append(command))
    bundle = module.read_list(stick)
    module.install(bundle, module.wheels_of(bundle, "Linux", "x86_64", (3, 11)), tmp_path / "to")
    (pip,) = [command for command in ran if "install" in command]
    assert "--no-index" in pip and str(stick / "wheels") in pip
    assert pip[-1].startswith("qwen3lab[lab] @ file://") and "-1.0-" in pip[-1]
    assert (tmp_path / "to" / "notebooks" / "guide" / "index.md").exists()
    assert (tmp_path / "to" / "start.sh").exists()


def test_the_machine_decides_and_one_without_wheels_is_told_for_which_there_are(stick):
    module = load(stick / "install.py")
    bundle = module.read_list(stick)
    assert module.wheels_of(bundle, "Windows", "AMD64", (3, 12))
    with pytest.raises(module.Refused, match=r"Python 3\.9.*linux with Python 3\.11.*Install"):
        module.wheels_of(bundle, "Linux", "x86_64", (3, 9))
    with pytest.raises(module.Refused, match=r"Darwin on arm64.*Ask your teacher"):
        module.wheels_of(bundle, "Darwin", "arm64", (3, 11))


def test_a_damaged_wheel_stops_it_before_anything_is_installed(stick):
    (stick / "wheels" / "qwen3lab-1.0-py3-none-any.whl").write_text("half")
    ran = subprocess.run(
        [sys.executable, str(stick / "install.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "whl is missing or damaged: copy the folder again" in ran.stdout


def test_a_students_notebook_is_not_overwritten(stick, tmp_path):
    mine = tmp_path / "mine" / "guide" / "index.md"
    mine.parent.mkdir(parents=True)
    mine.write_text("my notes")
    load(stick / "install.py").copy_notebooks(stick / "notebooks", tmp_path / "mine")
    assert mine.read_text() == "my notes"


def test_the_script_for_windows_starts_from_its_own_folder_with_its_line_ends(stick, tmp_path):
    module = load(stick / "install.py")
    assert module.python_of(tmp_path, windows=True) == tmp_path / "Scripts" / "python.exe"
    script = module.write_start(tmp_path, windows=True)
    assert script.name == "start.bat"
    assert script.read_bytes().count(b"\r\n") == script.read_bytes().count(b"\n") == 2
    assert b'"%~dp0environment\\Scripts\\qwen3lab.exe" lab "%~dp0notebooks"' in script.read_bytes()


def test_the_batch_file_has_the_line_ends_and_the_pythons_of_windows():
    text = (STICK / "install.bat").read_bytes()
    assert text.count(b"\r\n") == text.count(b"\n")
    assert b"3.13 3.12 3.11 3.10" in text and b"py -%%V" in text


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
def test_the_shell_script_takes_the_python_that_the_folder_is_for(stick, tmp_path):
    # A stand-in for an interpreter says what it was asked to run.
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("python3.11", "python3"):
        (tools / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tools / name).chmod(0o755)
    for tool in ("sed", "sort", "dirname"):
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    shell = shutil.which("sh") or "sh"
    ran = subprocess.run(
        [shell, str(stick / "install.sh"), "here"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": str(tools)},
    )
    assert ran.stdout.split() == ["python3.11", str(stick / "install.py"), "here"]
