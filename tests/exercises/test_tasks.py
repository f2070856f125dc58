"""The table of exercises is that of the notebooks."""

import ast
import re

import pytest

from qwen3lab.exercises.tasks import BY_NOTEBOOK, TASKS
from tests.notebooks.books import NOTEBOOKS, open_book

BOOKS = sorted(NOTEBOOKS.glob("0[0-6]_*.ipynb"))
NAMED_BY_KIND = ("best_head", "formed", "head_of_kind")


def called(source: str) -> list[str]:
    """Names of the exercises that a cell calls."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    found = []
    for call in calls:
        name = ast.unparse(call.func)
        if name.startswith("exercises."):
            kind = f" {ast.literal_eval(call.args[1])}" if name[10:] in NAMED_BY_KIND else ""
            found.append(name[10:] + kind)
    return found


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_at_least_five_exercises_with_marked_difficulties(path):
    cells = open_book(path).cells
    names = [name for cell in cells if cell.cell_type == "code" for name in called(cell.source)]
    levels = [
        level
        for cell in cells
        if cell.cell_type == "markdown"
        for level in re.findall(r"### Exercise \d+ \((\w+)\)", cell.source)
    ]
    assert dict(zip(names, levels, strict=True)) == BY_NOTEBOOK[path.stem]
    assert len(names) >= 5 and set(levels) == {"easy", "medium", "hard"}


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_exercises_are_numbered_in_order_and_wait_for_an_answer(path):
    cells = open_book(path).cells
    numbers = [int(n) for cell in cells for n in re.findall(r"### Exercise (\d+)", cell.source)]
    assert numbers == list(range(1, len(numbers) + 1))
    for cell in cells:
        if cell.cell_type == "code" and called(cell.source):
            assert re.search(r"\b(answer|after)=None", cell.source) and "hint=0" in cell.source


def test_each_exercise_has_a_name_of_its_own():
    assert len({task.name for task in TASKS}) == len(TASKS) == 35
