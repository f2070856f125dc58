"""Each exercise has a solution that its check accepts in its notebook."""

import re
from pathlib import Path

import pytest

from qwen3lab.course.solutions import SOLUTIONS
from qwen3lab.exercises.tasks import BY_NOTEBOOK, TASKS
from tests.notebooks.books import NOTEBOOKS, execute, open_book


def test_every_exercise_has_a_solution():
    assert set(SOLUTIONS) == {task.name for task in TASKS}


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_NOTEBOOK)
def test_the_solutions_solve_all_exercises_of_a_notebook(name: str, tmp_path: Path):
    book = open_book(NOTEBOOKS / f"{name}.ipynb")
    asked = [cell for cell in book.cells if re.search(r"\b(answer|after)=None", cell.source)]
    asked = [cell for cell in asked if cell.cell_type == "code"]
    for cell, exercise in zip(asked, BY_NOTEBOOK[name], strict=True):
        answer, code = r"\b(answer|after)=None", SOLUTIONS[exercise]
        cell.source = re.sub(answer, lambda found, code=code: f"{found[1]}={code}", cell.source)
    execute(book, tmp_path)
    for cell, exercise in zip(asked, BY_NOTEBOOK[name], strict=True):
        shown = [output.data["text/plain"] for output in cell.outputs if "data" in output]
        assert shown and shown[-1].startswith("Right."), (exercise, shown)
