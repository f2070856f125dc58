"""The folder of a bundle: complete, checked, and refused where it is damaged."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from qwen3lab.course.bundle import folder as module
from qwen3lab.course.bundle.closure import Wheel
from qwen3lab.course.bundle.folder import check_bundle, write_bundle
from qwen3lab.course.bundle.own_wheel import requirements_of
from qwen3lab.course.bundle.targets import targets
from qwen3lab.errors import StorageError

CONTENT = b"a wheel"


def wheel_file(folder: Path, name: str = "qwen3lab") -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        text = f"Name: {name}\nVersion: 1.0\nRequires-Dist: tqdm>=4\n"
        archive.writestr(f"{name}-1.0.dist-info/METADATA", text)
    return path


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A bundle whose only dependency is a file of a few bytes, and what was fetched for it."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    tqdm = Wheel("tqdm", "4.1", "tqdm-4.1-py3-none-any.whl", digest)
    fetched = []

    def fetch(machine, group, wheels):
        fetched.extend(wheel.file for wheel in group)
        for wheel in group:
            (wheels / wheel.file).write_bytes(CONTENT)

    monkeypatch.setattr(module, "wheels_for", lambda *_: [tqdm])
    monkeypatch.setattr(module, "_fetch", fetch)
    given = wheel_file(tmp_path)

    def make():
        said = []
        machines = targets(["linux", "windows"], ["3.12"])
        write_bundle(tmp_path / "stick", machines, wheel=given, note=said.append)
        return said

    return tmp_path / "stick", make, fetched


def test_it_has_the_wheels_the_notebooks_the_guide_and_what_installs_them(bundle):
    folder, make, _ = bundle
    said = make()
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert {"install.sh", "install.bat", "install.py", "README.txt"} <= names
    assert {"notebooks/00_start_here.ipynb", "notebooks/guide/index.md"} <= names
    assert "linux with Python 3.12: about 480 MB" in said[0]
    assert "are free" in said[2] and said[-1].endswith("all as listed")
    listed = json.loads((folder / "bundle.json").read_text())
    assert [each["platform"] for each in listed["machines"]] == ["linux", "windows"]


def test_a_second_call_fetches_only_what_is_missing_or_damaged(bundle):
    folder, make, fetched = bundle
    make()
    assert fetched == ["tqdm-4.1-py3-none-any.whl"]  # Once for both machines.
    make()
    assert len(fetched) == 1
    (folder / "wheels" / fetched[0]).write_bytes(b"half a whe")
    make()
    assert len(fetched) == 2


def test_a_torch_with_cuda_is_refused_before_anything_is_fetched(bundle, monkeypatch):
    _, make, fetched = bundle
    cuda = Wheel("nvidia-cublas", "13", "nvidia_cublas-13-py3-none-any.whl", "ab")
    monkeypatch.setattr(module, "wheels_for", lambda *_: [cuda])
    with pytest.raises(StorageError, match="torch with CUDA"):
        make()
    assert fetched == []


def test_wheels_of_an_earlier_bundle_go(bundle):
    folder, make, _ = bundle
    make()
    (folder / "wheels" / "tqdm-3.0-py3-none-any.whl").write_bytes(b"old")
    make()
    assert not (folder / "wheels" / "tqdm-3.0-py3-none-any.whl").exists()


@pytest.mark.parametrize(
    ("harm", "match"),
    [
        (lambda f: (f / "install.py").unlink(), r"install\.py is missing"),
        (lambda f: (f / "README.txt").write_text("x"), r"README\.txt in .* is damaged"),
        (lambda f: (f / "bundle.json").write_text("["), "is no bundle"),
        (
            lambda f: (f / "bundle.json").write_text('{"files": {"../x": {"sha256": ""}}}'),
            "names a file outside",
        ),
    ],
)
def test_what_is_missing_damaged_or_hostile_is_named(bundle, harm, match):
    folder, make, _ = bundle
    make()
    harm(folder)
    with pytest.raises(StorageError, match=match):
        check_bundle(folder)


def test_a_file_that_is_no_wheel_of_this_package_is_refused(tmp_path):
    (tmp_path / "no.whl").write_text("no wheel")
    with pytest.raises(StorageError, match="cannot be read as a wheel"):
        requirements_of(tmp_path / "no.whl")
    with pytest.raises(StorageError, match="is a wheel of other: expected one of qwen3lab"):
        requirements_of(wheel_file(tmp_path, "other"))
    assert requirements_of(wheel_file(tmp_path)) == ["tqdm>=4"]
