"""What the README promises is what happens."""

import re
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
