"""Measures the workbench in a browser, prints a table, and writes the values as JSON."""

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.notebooks.browser import browser
from tests.notebooks.jupyter_server import jupyter_server
from tests.notebooks.measuring.cases import CASES, Rooms, Row
from tests.notebooks.measuring.page import timed
from tests.notebooks.measuring.table import machine, table

REPEATS = 5


def main() -> None:
    """Measure the cases that the command line names."""
    options = _options()
    rows: list[Row] = []
    found = machine()
    with _rooms(options.standins, options.repeats) as rooms:
        for name in options.case or CASES:
            for row in CASES[name](rooms):
                rows.append(row)
                print(f"{row.case}, {row.step}: {row.value:.3g} {row.unit}", flush=True)
                values = {"machine": found, "rows": [vars(each) for each in rows]}
                # After each row: what was measured is kept if a later case fails.
                options.out.write_text(json.dumps(values, indent=1), encoding="utf-8")
    print(table(rows, found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", action="append", choices=[*CASES], help="all without it")
    parser.add_argument("--out", type=Path, default=Path("browser.json"), help="file of the values")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="counted clicks of each kind")
    named = os.environ.get("QWEN3LAB_STANDINS", str(Path.home() / ".cache/qwen3lab-standins"))
    parser.add_argument("--standins", type=Path, default=Path(named), help="keeps the stand-in")
    return parser.parse_args()


@contextmanager
def _rooms(standins: Path, repeats: int) -> Iterator[Rooms]:
    """A browser, and a server of a temporary folder of notebooks."""
    with TemporaryDirectory(prefix="qwen3lab-measuring-") as named:
        folder = Path(named)
        books = folder / "books"
        books.mkdir()
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # Without compiled code all is compiled.
        # Kernels import the code of long_chat.py from here.
        os.environ["PYTHONPATH"] = os.pathsep.join(
            [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
        )
        with jupyter_server(books, folder / "home") as server, _tabs(folder) as tabs:
            yield Rooms(server, tabs, books, standins, repeats)


@contextmanager
def _tabs(folder: Path) -> Iterator:
    with browser(folder / "profile", width=1366, height=768) as tabs:
        timed(tabs)
        yield tabs


if __name__ == "__main__":
    main()
