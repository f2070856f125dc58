"""The training log: a file with one JSON report per line."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LOG = "training-log.jsonl"


def append_log(folder: Path, report: dict[str, Any]) -> None:
    """Append a report to the folder's log."""
    with (folder / LOG).open("a", encoding="utf-8") as log:
        log.write(_line(report))


def read_log(folder: Path) -> list[dict[str, Any]]:
    """All reports of the folder's log in order; an empty list if there is no log."""
    log = folder / LOG
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def write_log(folder: Path, reports: Sequence[dict[str, Any]]) -> None:
    """Replace the folder's log by these reports."""
    (folder / LOG).write_text("".join(map(_line, reports)), encoding="utf-8")


def _line(report: dict[str, Any]) -> str:
    return json.dumps(report) + "\n"
