"""The commands of a course: `qwen3lab course ...`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from qwen3lab.cli.help_texts import App
from qwen3lab.cli.options import Json
from qwen3lab.cli.output import status_table
from qwen3lab.translation import set_language, tr

course = App(
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
        typer.Option(
            help="A notebook; repeatable; default: those of the package, in the language."
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(help="en or zh; default: that of QWEN3LAB_LANG or of the locale."),
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Run them first, for the figures.")] = False,
) -> None:
    """Make slides of the notebooks: one HTML file each, which works without a network.

    Example: qwen3lab course slides slides --run
    """
    from qwen3lab.course import write_slides
    from qwen3lab.jupyter.working_copy import shipped_books

    if language is not None:
        set_language(language)
    books = book or shipped_books()
    written = write_slides(books, folder, run=run)
    print(
        tr(
            "{n} files in {folder}: open one in a browser; F is full screen",
            n=len(written),
            folder=folder,
        )
    )


@course.command()
def status(
    folder: Annotated[
        Path | None, typer.Argument(help="Your folder of notebooks; default: the working copy.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the exercises: tries, hints that were read, and which are solved."""
    from qwen3lab.exercises import progress
    from qwen3lab.exercises.tasks import standing
    from qwen3lab.jupyter.working_copy import working_folder

    rows = standing(progress.read(folder or working_folder()))
    print(json.dumps(rows, indent=2) if as_json else status_table(rows))


@course.command()
def reset(
    notebook: Annotated[
        list[str] | None, typer.Argument(help="Such as 01_attention; default: all.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Your folder of notebooks; default: the working copy.")
    ] = None,
) -> None:
    """Restore notebooks, and forget the progress with their exercises.

    What is replaced is kept in the folder `kept` beside them.
    """
    from qwen3lab.jupyter.working_copy import reset as reset_copy, working_folder

    kept = reset_copy(folder or working_folder(), notebook or ())
    print("\n".join(tr("kept as {path}", path=path) for path in kept))


@course.command()
def assignment(
    notebook: Annotated[str, typer.Argument(help="Such as 01_attention.")],
    folder: Annotated[Path, typer.Argument(help="Of an nbgrader course; made if missing.")],
) -> None:
    """Make an assignment for nbgrader: the exercises of a notebook, with hidden tests.

    nbgrader makes the students' version of it, grades their files and writes feedback: the folder's
    README.md says how.

    Example: qwen3lab course assignment 01_attention grading
    """
    from qwen3lab.course.assignment import write_assignment

    path = write_assignment(notebook, folder)
    print(
        tr(
            "{path} is the teacher's version; {readme} says how to go on",
            path=path,
            readme=folder / "README.md",
        )
    )


@course.command()
def bundle(
    folder: Annotated[Path, typer.Argument(help="For the bundle, such as on a USB stick.")],
    platform: Annotated[
        list[str] | None,
        typer.Option(help="linux, linux-arm, macos or windows; repeatable; default: this one."),
    ] = None,
    python: Annotated[
        list[str] | None,
        typer.Option(help="Version of Python, such as 3.12; repeatable; default: this one."),
    ] = None,
    wheel: Annotated[
        Path | None, typer.Option(help="Wheel of qwen3lab; default: built from the checkout.")
    ] = None,
    constraint: Annotated[
        list[str] | None, typer.Option(help="Version to take, as torch==2.13.0; repeatable.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check a bundle.")] = False,
) -> None:
    """Make a folder that installs everything without a network, by one command.

    Needs a network itself, once. A second call goes on where the first one was interrupted.

    Example: qwen3lab course bundle /media/stick --platform windows --platform macos
    """
    from qwen3lab.course.bundle import check_bundle, targets, write_bundle

    if check:
        print(check_bundle(folder))
        return
    machines = targets(platform or (), python or ())
    write_bundle(folder, machines, wheel=wheel, constraints=constraint or ())
    print(
        tr("{folder} is ready: on each machine run install.sh or install.bat there", folder=folder)
    )
