"""A JSON Lines file of a long run: the plan in the first line, then one result per line."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from qwen3lab.storage.atomic_files import write_text
from qwen3lab.storage.json_dataclasses import structure, unstructure
from qwen3lab.storage.line_files import append_lines, drop_partial_line, read_lines

P = TypeVar("P")
R = TypeVar("R")
KIND = "qwen3lab"


class Store(Generic[P, R]):
    """A file with a plan and the results of a run; an incomplete last line is ignored.

    Args:
        path: of the file.
        plan_type: the dataclass of the plan.
        result_type: the dataclass of a result.
    """

    def __init__(self, path: str | Path, plan_type: type[P], result_type: type[R]) -> None:
        self.path = Path(path)
        self.plan_type, self.result_type = plan_type, result_type

    def resume(self, plan: P) -> list[R]:
        """The results in the file, which must have this plan; creates a missing file.

        Raises:
            ValueError: the file has another plan, or is of another kind.
            StorageError: the file cannot be created.
        """
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, f"{_json({'kind': self._kind, **unstructure(plan)})}\n")
            return []
        old = self.plan()
        if old != plan:
            names = [field.name for field in fields(plan)]  # type: ignore[arg-type]
            changed = [name for name in names if getattr(old, name) != getattr(plan, name)]
            raise ValueError(
                f"{self.path.name} holds another run, with other {', '.join(changed)}: "
                "give another path, or remove the file"
            )
        drop_partial_line(self.path)
        return self.results()

    def add(self, results: Sequence[R]) -> None:
        """Append results to the file."""
        append_lines(self.path, [_json(unstructure(result)) for result in results])

    def plan(self) -> P:
        """The plan in the file.

        Raises:
            ValueError: the file does not begin with a plan.
        """
        with self.path.open(encoding="utf-8") as file:
            first = file.readline()
        try:
            values = dict(json.loads(first))
            if values.pop("kind", None) != self._kind:
                raise ValueError("another kind of file")
            return structure(self.plan_type, values)
        except (ValueError, TypeError):
            raise ValueError(
                f"{self.path.name} does not begin as a file of {self._kind} does: "
                "expected one that this package wrote"
            ) from None

    def results(self) -> list[R]:
        """The results in the file, without an incomplete last line.

        Raises:
            ValueError: a line is damaged; the message gives its number.
        """
        lines = read_lines(self.path)[1:]
        return [self._result(number, line) for number, line in enumerate(lines, start=2)]

    def _result(self, number: int, line: str) -> R:
        try:
            return structure(self.result_type, json.loads(line))
        except ValueError as error:
            raise ValueError(
                f"line {number} of {self.path.name} is damaged ({error}): remove the line, and "
                "what it held is run again"
            ) from error

    @property
    def _kind(self) -> str:
        return f"{KIND} {self.result_type.__name__.lower()}s"


def digest(parts: Sequence[Any]) -> str:
    """A short hash that identifies a list of JSON values."""
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()[:16]


def _json(values: Any) -> str:
    return json.dumps(values, ensure_ascii=False)
