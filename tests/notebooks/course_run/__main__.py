"""The command: `python -m tests.notebooks.course_run --language zh --out FOLDER`."""

import argparse
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from qwen3lab.exercises.tasks import BY_NOTEBOOK
from qwen3lab.jupyter.working_copy import make_working_copy
from qwen3lab.translation import set_language
from tests.notebooks.browser import browser
from tests.notebooks.course_run import __doc__ as about
from tests.notebooks.course_run.report import REPORT, summary, write_report, write_sheet
from tests.notebooks.course_run.walk import Setting, walk
from tests.notebooks.jupyter_server import jupyter_server


def main(setting: Setting, out: Path, notebooks: list[str]) -> None:
    """Go through the notebooks that are not in the folder yet."""
    set_language(setting.language)
    missing = [each for each in notebooks if not (out / setting.name / each / REPORT).exists()]
    os.environ.pop("QWEN3LAB_LANG", None)  # The folder of the notebook alone decides.
    os.environ["LC_ALL"] = "C.UTF-8"
    for notebook in missing:
        print(summary(run(setting, out / setting.name / notebook, notebook)), flush=True)
        write_sheet(out)
    print(write_sheet(out))


def run(setting: Setting, folder: Path, notebook: str) -> dict:
    """One notebook, in a new working copy with a new server and browser; gives its report."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        copy = make_working_copy(place / "copy")
        window = {"width": setting.width, "height": setting.height}
        with (
            jupyter_server(copy, place / "home") as server,
            browser(place / "chromium", **window) as context,
        ):
            report = walk(context, server, setting, notebook, folder)
        write_report(report, folder)
    return report


def chosen(starts: list[str]) -> Iterator[str]:
    """The notebooks whose names begin so; all if none is given."""
    for name in BY_NOTEBOOK:
        if not starts or name.startswith(tuple(starts)):
            yield name


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.notebooks.course_run",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--language", choices=("zh", "en"), default="zh")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument("--notebook", action="append", default=[], help="such as 01; all if absent")
    parser.add_argument("--size", default="1366x768", help="of the window")
    parser.add_argument("--theme", choices=("light", "dark"), default="light")
    return parser.parse_args()


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # Either ends the server and the browser, too.
        signal.signal(number, signal.default_int_handler)
    given = _arguments()
    width, height = map(int, given.size.split("x"))
    main(
        Setting(given.language, width, height, given.theme), given.out, list(chosen(given.notebook))
    )
