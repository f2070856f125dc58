"""A student's working copy: made once, without scripts, outside of the checkout, and restored."""

import json
import subprocess
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from qwen3lab.cli import app
from qwen3lab.exercises import progress
from qwen3lab.jupyter import working_copy as module
from qwen3lab.jupyter.working_copy import (
    FIRST_NOTEBOOK,
    make_working_copy,
    reset,
    working_folder,
)

ROOT = Path(__file__).parents[2]
SECOND = "01_attention.ipynb"


def files(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in found}


def change(path: Path) -> str:
    """As a person who runs and saves the notebook does."""
    book = nbformat.read(path, as_version=4)
    book.cells[1].source = "changed by a person"
    nbformat.write(book, path)
    return path.read_text()


def test_a_copy_has_notebooks_and_guide_but_no_scripts(tmp_path):
    found = files(make_working_copy(tmp_path / "mine"))
    assert {FIRST_NOTEBOOK, f"zh/{SECOND}", "guide/index.md", progress.FILE} <= found
    assert not any(name.endswith(".py") for name in found)


def test_saving_a_copy_writes_no_script_beside_it(tmp_path):
    folder = make_working_copy(tmp_path)
    shipped = nbformat.read(ROOT / "notebooks" / SECOND, as_version=4)
    copied = nbformat.read(folder / SECOND, as_version=4)
    assert "jupytext" in shipped.metadata and "jupytext" not in copied.metadata
    assert copied.cells == shipped.cells and nbformat.validate(copied) is None


def test_running_and_saving_a_copy_leaves_the_checkout_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.chdir(ROOT / "notebooks")
    folder = working_folder()
    assert folder == tmp_path / "qwen3lab-notebooks"
    before = _dirty()
    change(make_working_copy(folder) / FIRST_NOTEBOOK)
    assert _dirty() == before


def _dirty() -> str:
    line = ["git", "status", "--porcelain", "notebooks"]
    ran = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    if ran.returncode:
        pytest.skip("this is no git checkout")
    return ran.stdout


def test_outside_of_the_checkout_the_copy_is_made_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert working_folder() == tmp_path / "qwen3lab-notebooks"


def test_an_installed_package_copies_what_it_brought_and_overwrites_nothing(tmp_path, monkeypatch):
    package = tmp_path / "site" / "qwen3lab"
    for name in (FIRST_NOTEBOOK, "zh/01_next.ipynb", "guide/index.md", "guide/images/a.svg"):
        path = package / "_notebooks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"metadata": {"jupytext": {}}}')
    monkeypatch.setattr(module.qwen3lab, "__file__", str(package / "__init__.py"))
    target = make_working_copy(tmp_path / "mine")
    assert json.loads((target / "zh" / "01_next.ipynb").read_text()) == {"metadata": {}}
    (target / "guide" / "index.md").write_text("with notes")
    (target / FIRST_NOTEBOOK).unlink()
    make_working_copy(target)
    assert (target / "guide" / "index.md").read_text() == "with notes"
    assert (target / FIRST_NOTEBOOK).exists()


def test_a_reset_restores_one_notebook_and_keeps_the_old_one(tmp_path):
    folder = make_working_copy(tmp_path)
    fresh = (folder / SECOND).read_text()
    olds = []
    for _ in range(2):
        olds.append(change(folder / SECOND))
        first = change(folder / FIRST_NOTEBOOK)
        reset(folder, ["01_attention"])
        assert (folder / SECOND).read_text() == fresh
        assert (folder / FIRST_NOTEBOOK).read_text() == first
    kept = [(folder / "kept" / f"01_attention-{n}.ipynb").read_text() for n in (1, 2)]
    assert kept == olds


def test_a_reset_forgets_the_progress_of_its_notebook_alone(tmp_path, monkeypatch):
    folder = make_working_copy(tmp_path)
    monkeypatch.chdir(folder / "zh")  # A notebook in Chinese runs there.
    progress.note("sink_heads", solved=True)
    progress.note("most_attended", solved=False)
    reset(folder, ["01_attention.ipynb"])
    assert set(progress.read(folder).exercises) == {"most_attended"}
    reset(folder)
    assert not progress.read(folder).exercises
    assert {"kept/course-progress-1.json", "kept/course-progress-2.json"} <= files(folder)


def test_a_damaged_file_of_progress_is_kept_aside(tmp_path):
    folder = make_working_copy(tmp_path)
    (folder / progress.FILE).write_text("{")
    reset(folder)
    assert not progress.read(folder).exercises
    assert (folder / "kept" / "course-progress-1.json").read_text() == "{"


@pytest.mark.parametrize("name", ["09_none", "../../etc/passwd", ""])
def test_an_unknown_notebook_is_named_with_the_choices(tmp_path, name):
    with pytest.raises(ValueError, match="choose from 00_start_here, 01_attention"):
        reset(make_working_copy(tmp_path), [name])


def test_a_folder_without_a_copy_is_not_reset(tmp_path):
    with pytest.raises(ValueError, match="give the folder that `qwen3lab lab` made"):
        reset(tmp_path)
    assert not files(tmp_path)


def test_the_commands_show_the_standing_and_reset_it(tmp_path, monkeypatch):
    folder = make_working_copy(tmp_path)
    monkeypatch.chdir(folder)
    progress.note("needs_thinking", hint=2)
    progress.note("needs_thinking", solved=True)
    shown = CliRunner().invoke(app, ["course", "status", str(folder)]).output
    (line,) = [line for line in shown.splitlines() if "needs_thinking" in line]
    assert line.split() == ["00_start_here", "needs_thinking", "hard", "1", "2", "yes"]
    assert shown.splitlines()[-1] == "1 of 35 solved"
    rows = json.loads(CliRunner().invoke(app, ["course", "status", str(folder), "--json"]).output)
    assert [row["exercise"] for row in rows if row["solved"]] == ["needs_thinking"]
    told = CliRunner().invoke(app, ["course", "reset", "00_start_here", "--folder", str(folder)])
    assert "kept as" in told.output and "00_start_here-1.ipynb" in told.output
    again = CliRunner().invoke(app, ["course", "status", str(folder)]).output
    assert again.splitlines()[-1] == "0 of 35 solved"
