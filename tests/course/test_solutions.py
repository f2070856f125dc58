"""Each exercise has a solution that its check accepts in its notebook."""

import ast
import re
from pathlib import Path

import pytest
from nbformat import NotebookNode

from qwen3lab.course.solutions import SOLUTIONS
from qwen3lab.exercises.tasks import BY_NOTEBOOK, TASKS
from tests.notebooks.books import NOTEBOOKS, execute, open_book

OPEN = re.compile(r"\b(answer|after)=None")


def test_every_exercise_has_a_solution():
    assert set(SOLUTIONS) == {task.name for task in TASKS}


@pytest.mark.parametrize("name", BY_NOTEBOOK)
def test_what_an_exercise_needs_is_still_there_after_the_last_cell(name: str):
    """Students run all cells first, and go back to the exercises then."""
    cells = [each.source for each in open_book(NOTEBOOKS / f"{name}.ipynb").cells if is_code(each)]
    places = [place for place, source in enumerate(cells) if OPEN.search(source)]
    for place, exercise in zip(places, BY_NOTEBOOK[name], strict=True):
        needed = names(cells[place], ast.Load) | names(SOLUTIONS[exercise], ast.Load)
        needed -= names(cells[place], ast.Store) | names(SOLUTIONS[exercise], ast.Store)
        changed = set().union(*(names(later, ast.Store) for later in cells[place + 1 :]))
        assert not needed & changed, exercise


def is_code(cell: NotebookNode) -> bool:
    return cell.cell_type == "code"


def names(source: str, use: type[ast.expr_context]) -> set[str]:
    """Variables that code reads or sets."""
    found = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name))
    return {node.id for node in found if isinstance(node.ctx, use)}


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_NOTEBOOK)
def test_the_solutions_solve_all_exercises_of_a_notebook(name: str, tmp_path: Path):
    book = open_book(NOTEBOOKS / f"{name}.ipynb")
    asked = [cell for cell in book.cells if is_code(cell) and OPEN.search(cell.source)]
    for cell, exercise in zip(asked, BY_NOTEBOOK[name], strict=True):
        code = SOLUTIONS[exercise]
        cell.source = OPEN.sub(lambda found, code=code: f"{found[1]}={code}", cell.source)
    execute(book, tmp_path)
    for cell, exercise in zip(asked, BY_NOTEBOOK[name], strict=True):
        shown = [output.data["text/plain"] for output in cell.outputs if "data" in output]
        assert shown and shown[-1].startswith("Right."), (exercise, shown)
