"""What the README promises is what happens."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import qwen3lab

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_examples_run_as_they_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert len(blocks[0].strip().splitlines()) <= 11
    scope = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
    assert scope["chat"].answer == "④"
    assert (tmp_path / "run.safetensors").exists()


def test_the_table_of_models_is_the_catalogs():
    lines = [line for line in TEXT.splitlines() if line.startswith(("| tiny", "| Qwen/"))]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rows = list(qwen3lab.models())
    assert [row[0] for row in cells] == [row.name for row in rows]
    for shown, row in zip(cells, rows, strict=True):
        sparse = row.n_experts > 0
        sizes = [row.weight_bytes[kind] for kind in ("bfloat16", "int8", "int4")]
        assert shown[1:] == [
            f"{row.n_layers}",
            f"{row.n_heads} ({row.n_kv_heads})",
            f"{row.n_experts} ({row.n_experts_per_token})" if sparse else "",
            f"{row.n_params:,}",
            f"{row.n_active_params:,}" if sparse else "",
            *(f"{n / 2**30:.1f} GiB" if n >= 2**29 else f"{n / 2**20:.1f} MiB" for n in sizes),
        ]


@pytest.mark.parametrize("command", re.findall(r"^    make (\w+)", TEXT, flags=re.MULTILINE))
def test_what_make_is_told_to_do_it_can(command):
    assert f"\n{command}:" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("command", re.findall(r"^    qwen3lab (\w+)", TEXT, flags=re.MULTILINE))
def test_commands_that_are_named_exist(command):
    from qwen3lab.cli import app

    names = [found.name or found.callback.__name__ for found in app.registered_commands]
    assert command in names


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)]+)\)", TEXT))
def test_what_is_linked_is_there(link):
    assert (ROOT / link).exists()


OF_MAKE = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "SLOW", "PYTEST", "EXTRAS")


def made(folder, *options, target="lab"):
    """What `make lab` or another target would do with an environment in this folder."""
    line = ["make", "--dry-run", target, f"VENV={folder}", *options]
    # The variables of a `make test` that runs this are not those of the one that is tried.
    own = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    ran = subprocess.run(line, cwd=ROOT, env=own, capture_output=True, text=True, check=True)
    return ran.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_another_torch_is_installed_when_it_is_asked_for_and_stays(tmp_path, monkeypatch):
    monkeypatch.delenv("TORCH", raising=False)
    assert "install torch==" in made(tmp_path)
    (tmp_path / ".torch").write_text("torch==1 --index-url x\n")
    assert "install torch" not in made(tmp_path)
    assert "install torch" not in made(tmp_path, "TORCH=torch==1 --index-url x")
    assert "install torch==2 --index-url x" in made(tmp_path, "TORCH=torch==2 --index-url x")


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_says_what_there_is_to_make():
    ran = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "lab           open JupyterLab on the notebooks\n" in ran.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_quick_tests_check_calls_in_the_modules_that_state_shapes_and_slow_ones_in_all(tmp_path):
    quick, slow = made(tmp_path, target="test"), made(tmp_path, "SLOW=1", target="test")
    *modules, checker = re.search(r"--jaxtyping-packages=(\S+)", quick)[1].split(",")
    files = {path.relative_to(ROOT) for path in (ROOT / "qwen3lab").rglob("*.py")}
    stated = [path for path in files if "from jaxtyping" in (ROOT / path).read_text("utf-8")]
    assert checker == "beartype.beartype"
    names = (".".join(path.with_suffix("").parts) for path in stated)
    assert sorted(modules) == sorted(name.removesuffix(".__init__") for name in names)
    assert '-m "not slow"' in quick
    assert "not slow" not in slow and "--jaxtyping-packages" not in slow
    everything = re.search(r"--jaxtyping-packages=(\S+)", (ROOT / "pyproject.toml").read_text())
    assert everything[1].startswith("qwen3lab,beartype.beartype")
