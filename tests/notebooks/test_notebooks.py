"""Notebooks run from top to bottom, on the embedded model and on another, and keep the format."""

import functools
import re
from pathlib import Path

import nbformat
import pytest
import torch
from typer.testing import CliRunner

import qwen3lab
from qwen3lab import tiny
from qwen3lab.cli import app
from tests.notebooks.books import (
    NEXT_STEP,
    NOTEBOOKS,
    PLOT,
    RECORDED,
    SHORT_TRAINING,
    execute,
    mime_types,
    next_steps,
    open_book,
    paired_script,
    with_next_steps,
)

BOOKS = sorted(NOTEBOOKS.glob("*.ipynb"))
START = NOTEBOOKS / "00_start_here.ipynb"
QUICK = ("00_start_here", "01_attention")
"""Notebooks that run within seconds."""

EXECUTED = [
    pytest.param(path, id=path.stem, marks=[] if path.stem in QUICK else [pytest.mark.slow])
    for path in BOOKS
]


def name(path: Path) -> str:
    return path.stem


@functools.cache
def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook after a run on the embedded model, and what it recommends; cached."""
    return execute(with_next_steps(open_book(path)))


@pytest.mark.parametrize("path", EXECUTED)
def test_a_notebook_runs_on_the_embedded_model_without_a_warning(path: Path) -> None:
    kinds = mime_types(executed(path))
    assert "stderr" not in kinds and "error" not in kinds
    assert PLOT in kinds


def test_the_first_notebook_draws_its_five_figures_and_the_workbench() -> None:
    book = executed(START)
    kinds = mime_types(book)
    assert kinds.count(PLOT) == 5
    assert "application/vnd.jupyter.widget-view+json" in kinds
    third = [cell for cell in book.cells if cell.cell_type == "code"][2]
    assert "bench" in third.source and third.outputs


@pytest.mark.slow
def test_the_first_notebook_runs_unchanged_on_a_dense_model(dense_folder: Path) -> None:
    book = execute(open_book(START, model=str(dense_folder)))
    kinds = mime_types(book)
    assert "stderr" not in kinds and "error" not in kinds
    assert kinds.count(PLOT) == 5
    assert "There is no routing to show" in nbformat.writes(book)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("book", "says"),
    [
        ("01_attention", ""),
        (
            "02_expert_routing",
            "is a dense model and has no experts: from here on,",
        ),
        ("06_at_scale", "is a dense model and has no experts: from here on,"),
        ("03_thinking_budget", "There is no load to show: a dense model has no experts."),
    ],
)
def test_a_notebook_goes_on_with_a_dense_model(book: str, says: str) -> None:
    kinds = mime_types(found := execute(open_book(NOTEBOOKS / f"{book}.ipynb", model="tiny-dense")))
    assert "stderr" not in kinds and "error" not in kinds
    assert says in nbformat.writes(found)


def test_a_notebook_shows_a_recorded_training() -> None:
    book = executed(NOTEBOOKS / "04_how_it_grows.ipynb")
    assert nbformat.writes(book).count("step ") > 3
    assert "application/vnd.jupyter.widget-view+json" in mime_types(book)


@pytest.mark.slow
def test_the_same_notebook_trains_a_model_instead() -> None:
    book = open_book(NOTEBOOKS / "04_how_it_grows.ipynb")
    (cell,) = [cell for cell in book.cells if RECORDED in cell.source]
    cell.source = cell.source.replace(RECORDED, SHORT_TRAINING)
    kinds = mime_types(ran := execute(book))
    assert "application/vnd.jupyter.widget-view+json" in kinds and "error" not in kinds
    assert "previous token" in nbformat.writes(ran)


@pytest.mark.parametrize("path", EXECUTED)
def test_all_that_a_notebook_recommends_at_its_end_runs_in_its_kernel(path: Path) -> None:
    ran = [cell for cell in executed(path).cells if cell.metadata.get(NEXT_STEP)]
    assert len(ran) > 3 and all(cell.execution_count for cell in ran)


@pytest.mark.parametrize("path", BOOKS, ids=name)
def test_commands_and_notebooks_that_a_notebook_recommends_exist(path: Path) -> None:
    for step in next_steps(open_book(path)):
        if step.startswith("qwen3lab "):
            ran = CliRunner().invoke(app, [step.split()[1], "--help"])
            assert ran.exit_code == 0, step
        elif re.match(r"\d\d_", step):
            assert (NOTEBOOKS / f"{step}.ipynb").exists(), step


def test_the_first_notebook_names_the_others_in_order_and_says_how_to_run_a_cell() -> None:
    book = open_book(START)
    others = [step for step in next_steps(book) if re.match(r"\d\d_", step)]
    assert others == [path.stem for path in BOOKS[1:]]
    said = [path.stem for path in BOOKS if "Shift+Enter" in nbformat.writes(open_book(path))]
    assert said == [START.stem]


@pytest.mark.parametrize("path", BOOKS, ids=name)
def test_cells_are_short_and_define_nothing(path: Path) -> None:
    for cell in open_book(path).cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 12, cell.source
            assert "def " not in cell.source and "class " not in cell.source


@pytest.mark.parametrize("path", BOOKS, ids=name)
def test_a_notebook_starts_with_its_learning_goals(path: Path) -> None:
    first = open_book(path).cells[0]
    assert first.cell_type == "markdown"
    assert "After this notebook you can" in first.source


@pytest.mark.parametrize("path", BOOKS, ids=name)
def test_outputs_are_stripped_and_the_paired_script_is_the_same_notebook(path: Path) -> None:
    book = open_book(path)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert "widgets" not in book.metadata
    assert path.with_suffix(".py").read_text("utf-8") == paired_script(path)


@pytest.mark.parametrize("model", ["tiny-moe", "tiny-dense"])
def test_no_head_of_the_embedded_models_has_a_sink_as_the_lesson_says(model: str) -> None:
    lab = qwen3lab.load(model, device="cpu")
    shares = []
    for text in tiny.texts(lab.tokenizer, n=6, families=["arithmetic", "swaps"]):
        recording = lab.record(text.token_ids)
        patterns = [recording.attention.pattern(n) for n in range(lab.config.n_layers)]
        # The first queries have few keys to choose from.
        shares.append(torch.stack([pattern[:, 8:, 0].mean(dim=-1) for pattern in patterns]))
    assert float(torch.stack(shares).mean(dim=0).max()) < 0.1
