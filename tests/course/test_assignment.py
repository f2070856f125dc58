"""An assignment for nbgrader has cells for answers, and hidden tests that know the right ones."""

import csv
import os
import subprocess
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from qwen3lab.cli import app
from qwen3lab.course.assignment import CONFIG, KERNELS, STUB, write_assignment
from qwen3lab.course.solutions import SOLUTIONS
from qwen3lab.exercises.tasks import BY_NOTEBOOK

NBGRADER = os.environ.get("QWEN3LAB_NBGRADER", "")
"""The program of an environment in which nbgrader is installed."""


def graded(path: Path, kind: str) -> dict[str, nbformat.NotebookNode]:
    """Cells of one kind ("solution" or "grade"), by their names."""
    cells = nbformat.read(path, as_version=4).cells
    found = [cell for cell in cells if cell.metadata.get("nbgrader", {}).get(kind)]
    return {cell.metadata.nbgrader.grade_id: cell for cell in found}


@pytest.mark.parametrize("name", BY_NOTEBOOK)
def test_each_exercise_has_an_answer_a_check_and_a_hidden_test(name: str, tmp_path: Path):
    path = write_assignment(name, tmp_path)
    book = nbformat.read(path, as_version=4)
    assert nbformat.validate(book) is None
    assert len({cell.id for cell in book.cells}) == len(book.cells)
    answers, tests = graded(path, "solution"), graded(path, "grade")
    assert len(answers) == len(tests) == len(BY_NOTEBOOK[name])
    for (variable, cell), solution in zip(
        answers.items(), map(SOLUTIONS.__getitem__, BY_NOTEBOOK[name]), strict=True
    ):
        assert f"{variable} = {solution}\n### END SOLUTION" in cell.source
        hidden = tests[f"test_{variable}"]
        assert variable in hidden.source.split("### BEGIN HIDDEN TESTS")[1]
    assert not any("answer=None" in cell.source for cell in book.cells if cell.cell_type == "code")
    points = sorted(cell.metadata.nbgrader.points for cell in tests.values())
    assert points[0] == 1 and points[-1] == 3


def test_a_configuration_of_the_teacher_stays_and_the_kernel_is_this_one(tmp_path: Path):
    write_assignment("00_start_here", tmp_path)
    compile((tmp_path / "nbgrader_config.py").read_text(), "config", "exec")
    (tmp_path / "nbgrader_config.py").write_text("# mine")
    write_assignment("00_start_here", tmp_path)
    assert (tmp_path / "nbgrader_config.py").read_text() == "# mine"
    kernel = (tmp_path / KERNELS / "kernels" / "python3" / "kernel.json").read_text()
    assert "ipykernel_launcher" in kernel and repr(STUB) in CONFIG


def test_the_command_names_what_it_wrote_and_refuses_another_notebook(tmp_path: Path):
    told = CliRunner().invoke(app, ["course", "assignment", "01_attention", str(tmp_path)])
    assert told.exit_code == 0 and (tmp_path / "README.md").exists()
    with pytest.raises(ValueError, match="choose from 00_start_here"):
        write_assignment("../../x", tmp_path)


def run_nbgrader(folder: Path, *arguments: str) -> None:
    own = {"JUPYTER_PATH": str(folder / KERNELS), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    path = os.pathsep.join([str(Path(NBGRADER).parent), os.environ["PATH"]])
    line = [NBGRADER, *arguments]
    ran = subprocess.run(
        line,
        cwd=folder,
        env=os.environ | own | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]


def hand_in(folder: Path, student: str, name: str, answers: dict[str, str]) -> None:
    """Fill some answers into the released notebook, as a student does."""
    book = nbformat.read(folder / "release" / name / f"{name}.ipynb", as_version=4)
    for cell in book.cells:
        variable = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        if variable in answers:
            cell.source = f"{variable} = {answers[variable]}"
    path = folder / "submitted" / student / name / f"{name}.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(book, path)


if NBGRADER:  # It pins other versions of Jupyter, so it has an environment of its own.

    @pytest.mark.slow
    @pytest.mark.timeout(900)
    def test_nbgrader_releases_grades_and_writes_feedback(tmp_path: Path):
        name = "00_start_here"
        write_assignment(name, tmp_path)
        run_nbgrader(tmp_path, "generate_assignment", name)
        released = (tmp_path / "release" / name / f"{name}.ipynb").read_text()
        assert "HIDDEN TESTS" not in released and "SOLUTION" not in released and STUB in released
        right = {f"answer_{exercise}": SOLUTIONS[exercise] for exercise in BY_NOTEBOOK[name]}
        hand_in(tmp_path, "anna", name, right)
        hand_in(tmp_path, "ben", name, right | {"answer_most_attended": "13"})
        for step in ("autograde", "generate_feedback"):
            run_nbgrader(tmp_path, step, name)
        run_nbgrader(tmp_path, "export", "--to", "grades.csv")
        with (tmp_path / "grades.csv").open() as file:
            scores = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
        assert scores == {"anna": 9.0, "ben": 8.0}
        feedback = (tmp_path / "feedback" / "ben" / name / f"{name}.html").read_text()
        assert "you read the column" in feedback
