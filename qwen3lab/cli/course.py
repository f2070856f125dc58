"""The commands of a course: `qwen3lab course ...`."""

from pathlib import Path
from typing import Annotated

import typer

course = typer.Typer(
    help="Prepare and give a course with the notebooks.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@course.callback()
def group() -> None:
    """Prepare and give a course with the notebooks."""


@course.command()
def slides(
    folder: Annotated[Path, typer.Argument(help="For the slides; made if missing.")],
    book: Annotated[
        list[Path] | None,
        typer.Option(help="A notebook; repeatable; default: those of the package."),
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Run them first, for the figures.")] = False,
) -> None:
    """Make slides of the notebooks: one HTML file each, which works without a network.

    Example: qwen3lab course slides slides --run
    """
    from qwen3lab.course import write_slides
    from qwen3lab.jupyter.launch import shipped_notebooks

    books = book or sorted(shipped_notebooks().glob("[0-9]*.ipynb"))
    written = write_slides(books, folder, run=run)
    print(f"{len(written)} files in {folder}: open one in a browser; F is full screen")
