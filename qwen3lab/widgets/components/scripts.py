"""The text of the widgets' JavaScript modules."""

from pathlib import Path

FOLDER = Path(__file__).parent
SHARED = "element.js"


def script(*names: str) -> str:
    """One module: the shared functions, then these files of this folder in their order.

    Widgets take text and no path: for a path, anywidget watches the file with a signal that keeps
    every widget alive.
    """
    return "\n".join((FOLDER / name).read_text("utf-8") for name in (SHARED, *names))
