"""Assignments for nbgrader: a notebook whose exercises are answered in cells, with hidden tests.

nbgrader makes the students' version, grades what they hand in, and writes feedback. It runs in an
environment of its own; the kernel is that of this package.
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3lab.course.solutions import SOLUTIONS
from qwen3lab.exercises.tasks import BY_NOTEBOOK, EASY, HARD, MEDIUM
from qwen3lab.jupyter.working_copy import shipped_notebooks
from qwen3lab.storage.atomic_files import write_text
from qwen3lab.translation import tr

if TYPE_CHECKING:
    from nbformat import NotebookNode

POINTS = {EASY: 1, MEDIUM: 2, HARD: 3}
STUB = "# Put your answer in place of None."
KERNELS = "kernels"
"""Folder beside the course's, for JUPYTER_PATH: the kernel that runs the notebooks."""

README = """# Grading with nbgrader

Install nbgrader in an environment of its own (`pip install nbgrader`), activate it, and call it in
this folder, here with NAME in place of the assignment:

    export JUPYTER_PATH=$PWD/kernels        # Windows: set JUPYTER_PATH=%CD%\\kernels
    nbgrader generate_assignment NAME       # hand out release/NAME/NAME.ipynb
    nbgrader autograde NAME                 # of submitted/STUDENT/NAME/NAME.ipynb
    nbgrader generate_feedback NAME         # feedback/STUDENT/NAME/NAME.html
    nbgrader export                         # grades.csv

An easy exercise gives one point, a medium one two, a hard one three. The hidden tests call the
checks of `qwen3lab.exercises`, which compute the right answer in the kernel; an answer that is not
right fails with the feedback that the student saw.
"""

CONFIG = f"""c = get_config()
c.CourseDirectory.course_id = "qwen3lab"
c.ClearSolutions.code_stub = {{"python": {STUB!r}}}
c.ExecutePreprocessor.timeout = 600
"""


def write_assignment(notebook: str, folder: Path) -> Path:
    """Write the teacher's version of a notebook into an nbgrader course folder.

    Args:
        notebook: its name, as `01_attention`.
        folder: of the course; made if missing. An existing configuration stays.

    Returns:
        The notebook, in `source/`.

    Raises:
        ValueError: there is no such notebook.
        StorageError: a file cannot be written.
    """
    import nbformat

    name = Path(notebook).stem
    if name not in BY_NOTEBOOK:
        raise ValueError(
            tr(
                "there is no notebook {notebook!r}: choose from {choices}",
                notebook=notebook,
                choices=", ".join(BY_NOTEBOOK),
            )
        )
    book = nbformat.read(shipped_notebooks() / f"{name}.ipynb", as_version=4)
    book.metadata.pop("jupytext", None)
    names = iter(BY_NOTEBOOK[name].items())
    book.cells = [cell for each in book.cells for cell in _cells(each, names)]
    path = folder / "source" / name / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, nbformat.writes(book) + "\n")
    if not (folder / "nbgrader_config.py").exists():
        write_text(folder / "nbgrader_config.py", CONFIG)
        write_text(folder / "README.md", README)
    _write_kernel(folder / KERNELS / "kernels" / "python3")
    return path


def _cells(cell: "NotebookNode", names: Iterator[tuple[str, str]]) -> Iterator["NotebookNode"]:
    """The cell itself, or the cells of an exercise: answer, check and hidden test."""
    call = _exercise_of(cell.source) if cell.cell_type == "code" else None
    if call is None:
        yield cell
        return
    name, difficulty = next(names)
    number = f"answer_{re.sub(r'[^a-z]', '_', name)}"
    before = cell.source[: cell.source.rindex("exercises.")]
    asked = re.sub(r"\b(answer|after)=None", rf"\1={number}", call)
    if before.strip():
        yield _code(f"{cell.id}-before", before)
    yield _code(
        f"{cell.id}-answer",
        f"{number} = None\n### BEGIN SOLUTION\n{number} = {SOLUTIONS[name]}\n### END SOLUTION",
        grade_id=number,
        solution=True,
    )
    yield _code(f"{cell.id}-check", asked)
    yield _code(
        f"{cell.id}-test",
        f"# The answer is graded here.\n### BEGIN HIDDEN TESTS\n"
        f"from qwen3lab import exercises\nverdict = {asked}\n"
        f"assert verdict.solved is True, verdict.reason\n### END HIDDEN TESTS",
        grade_id=f"test_{number}",
        grade=True,
        locked=True,
        points=POINTS[difficulty],
    )


def _exercise_of(source: str) -> str | None:
    """The call of an exercise at the end of a cell."""
    body = ast.parse(source).body
    last = ast.get_source_segment(source, body[-1]) if body else None
    return last if last is not None and last.startswith("exercises.") else None


def _code(name: str, source: str, **grading: Any) -> "NotebookNode":
    import nbformat

    cell = nbformat.v4.new_code_cell(source.rstrip("\n"))
    cell.id = name[-64:]
    if grading:
        usual = {"schema_version": 3, "grade": False, "solution": False, "locked": False}
        cell.metadata["nbgrader"] = usual | {"task": False} | grading
    return cell


def _write_kernel(folder: Path) -> None:
    """The kernel of this environment, for an nbgrader of another one."""
    line = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {"argv": line, "display_name": "Python 3 (qwen3lab)", "language": "python"}
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "kernel.json", json.dumps(kernel, indent=1) + "\n")
