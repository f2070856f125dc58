"""Shows a workbench, or a notebook, as a page of its own, without cells: with Voila."""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from qwen3lab.jupyter.launch import environment, run_server
from qwen3lab.translation import tr

DATA = Path(__file__).parent / "data"
"""Has the template of the pages, which asks no other server for anything."""

TEMPLATE = "qwen3lab"
NEEDED = ("voila", "ipywidgets", "anywidget")


def show_page(
    model: str = "tiny-moe",
    *,
    tab: str = "text",
    notebook: Path | None = None,
    dark: bool = False,
    browser: bool = True,
    port: int | None = None,
) -> int:
    """Serve a page until the server is stopped; each visitor gets a kernel of their own.

    Args:
        model: an embedded model, a folder, or a hub id, which the page's workbench asks.
        tab: the view that the workbench opens at.
        notebook: to show in place of a workbench; its cells are run, and their code is hidden.
        dark: True for the dark theme.
        browser: open a browser as well.
        port: of the server; None lets Voila choose.

    Returns:
        The exit code of Voila.

    Raises:
        ImportError: Voila is not installed.
        ValueError: there is no such notebook.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ImportError(
            tr(
                "{names} is not installed: run pip install 'qwen3lab[lab]' voila",
                names=tr(" and ").join(missing),
            )
        )
    if notebook is not None and not (notebook.is_file() and notebook.suffix == ".ipynb"):
        raise ValueError(
            tr("{notebook} is not a notebook: give the path of an .ipynb file", notebook=notebook)
        )
    with _made(model, tab) if notebook is None else contextlib.nullcontext(notebook) as path:
        return run_server(
            page_command(path, dark=dark, browser=browser, port=port), page_environment()
        )


def page_command(
    notebook: Path, *, dark: bool = False, browser: bool = True, port: int | None = None
) -> list[str]:
    """Arguments that start Voila on a notebook."""
    arguments = [sys.executable, "-m", "voila", str(notebook.resolve())]
    arguments += [f"--template={TEMPLATE}", f"--theme={'dark' if dark else 'light'}"]
    if not browser:
        arguments.append("--no-browser")
    if port is not None:
        arguments.append(f"--port={port}")
    return arguments


def page_environment() -> dict[str, str]:
    """The environment variables of JupyterLab, with the place of the template."""
    user_path = os.environ.get("JUPYTER_PATH")
    paths = [str(DATA), *([user_path] if user_path else [])]
    return environment() | {"JUPYTER_PATH": os.pathsep.join(paths)}


def page_notebook(model: str, tab: str) -> str:
    """A notebook, as JSON, that shows the workbench of a model at a tab."""
    name = str(Path(model).resolve()) if Path(model).expanduser().is_dir() else model
    source = (
        "import qwen3lab\nfrom qwen3lab.widgets import Workbench\n\n"
        f"Workbench(qwen3lab.load({name!r}), tab={tab!r})"
    )
    cell = {
        "cell_type": "code",
        "id": "workbench",
        "metadata": {},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "title": "Qwen3 workbench"}
    book = {"cells": [cell], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(book)


@contextlib.contextmanager
def _made(model: str, tab: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="qwen3lab-page-") as folder:
        path = Path(folder) / "workbench.ipynb"
        path.write_text(page_notebook(model, tab), "utf-8")
        yield path
