"""Examples, commands, links and tables in the README are correct, and so is the Makefile."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

import qwen3lab

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readmes_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert len(blocks[0].strip().splitlines()) <= 11
    scope = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
    assert scope["chat"].answer == "34"
    assert (tmp_path / "run.safetensors").exists()


def test_the_readmes_table_of_models_equals_the_catalog():
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
def test_make_targets_in_the_readme_exist(command):
    assert f"\n{command}:" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("command", re.findall(r"^    qwen3lab (\w+)", TEXT, flags=re.MULTILINE))
def test_commands_in_the_readme_exist(command):
    from qwen3lab.cli import app

    assert command in typer.main.get_command(app).commands


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)]+)\)", TEXT))
def test_links_in_the_readme_exist(link):
    assert (ROOT / link).exists()


OF_MAKE = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "SLOW", "PYTEST", "EXTRAS")


def made(folder, *options, target="lab"):
    """Commands that `make` would run with an environment in this folder."""
    line = ["make", "--dry-run", target, f"VENV={folder}", *options]
    # The variables of a `make test` that runs this are not those of the one that is tried.
    own = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    ran = subprocess.run(line, cwd=ROOT, env=own, capture_output=True, text=True, check=True)
    return ran.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_installs_another_torch_build_and_keeps_it(tmp_path, monkeypatch):
    monkeypatch.delenv("TORCH", raising=False)
    assert "install torch==" in made(tmp_path)
    (tmp_path / ".torch").write_text("torch==1 --index-url x\n")
    assert "install torch" not in made(tmp_path)
    assert "install torch" not in made(tmp_path, "TORCH=torch==1 --index-url x")
    assert "install torch==2 --index-url x" in made(tmp_path, "TORCH=torch==2 --index-url x")


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_without_a_target_lists_the_targets():
    ran = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "lab           open JupyterLab on the notebooks\n" in ran.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_quick_tests_check_shapes_in_annotated_modules_and_slow_tests_in_all(tmp_path):
    quick, slow = made(tmp_path, target="test"), made(tmp_path, "SLOW=1", target="test")
    *modules, checker = re.search(r"--jaxtyping-packages=(\S+)", quick)[1].split(",")
    files = {path.relative_to(ROOT) for path in (ROOT / "qwen3lab").rglob("*.py")}
    stated = [path for path in files if "from jaxtyping" in (ROOT / path).read_text("utf-8")]
    assert checker == "beartype.beartype"
    names = (".".join(path.with_suffix("").parts) for path in stated)
    assert sorted(modules) == sorted(name.removesuffix(".__init__") for name in names)
    assert '-m "not slow and not standins"' in quick and '-m "not standins"' in slow
    assert "not slow" not in slow and "--jaxtyping-packages" not in slow
    everything = re.search(r"--jaxtyping-packages=(\S+)", (ROOT / "pyproject.toml").read_text())
    assert everything[1].startswith("qwen3lab,beartype.beartype")
