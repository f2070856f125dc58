"""A JSON Lines file of a long run: the plan in the first line, then one result per line.

Each line ends with a CRC-32 that continues that of the plan, so that a damaged line, and a line of
another run, are found. Files of earlier versions have none and are read without.
"""

import hashlib
import json
import zlib
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from qwen3lab.errors import ResultsError
from qwen3lab.storage.json_dataclasses import structure, unstructure
from qwen3lab.storage.json_lines import parse_json_line
from qwen3lab.storage.line_files import (
    append_lines,
    check_regular,
    drop_partial_line,
    locked,
    read_lines,
)

KIND = "qwen3lab"
CHECK = b', "crc32": "'
"""Precedes the checksum, 8 hexadecimal digits, at the end of a line."""


@runtime_checkable
class Plan(Protocol):
    """The settings of a run, as a dataclass that says which results belong to it."""

    def check(self) -> None:
        """Raises a ValueError for settings that no run can have."""
        ...

    def key_of(self, result: Any, /) -> Hashable:
        """What identifies a result; raises a ValueError for one that the plan does not have."""
        ...


P = TypeVar("P", bound=Plan)
R = TypeVar("R")


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

    @contextmanager
    def writing(self, plan: P) -> Iterator[list[R]]:
        """The results in the file, which no other run writes while the block runs.

        Raises:
            ResultsError: as in `resume`.
            StorageError: as in `resume`, or another run writes the file.
        """
        self._check_path()
        with locked(self.path):
            yield self.resume(plan)

    def resume(self, plan: P) -> list[R]:
        """The results in the file, which must have this plan; creates a missing file.

        A file that is refused stays as it is.

        Raises:
            ResultsError: the file has another plan, is of another kind, or is damaged.
            StorageError: the file cannot be created.
        """
        self._check_path()
        first = _with_check({"kind": self._kind, **unstructure(plan)}, 0)
        there = self.path.read_bytes() if self.path.exists() else b""
        if first.encode().startswith(there):  # Nothing, or what a kill left of the first line.
            self._begin(first)
            return []
        self._check_same(plan)
        found = self.results()
        drop_partial_line(self.path)
        return found

    def _begin(self, first: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            drop_partial_line(self.path)
        append_lines(self.path, [first])

    def _check_same(self, plan: P) -> None:
        old = self.plan()
        names = [field.name for field in fields(plan)]  # type: ignore[arg-type]
        changed = [name for name in names if getattr(old, name) != getattr(plan, name)]
        if changed:
            raise ResultsError(
                f"{self.path.name} holds another run, with other {', '.join(changed)}: "
                "give another path, or remove the file"
            )

    def add(self, results: Sequence[R]) -> None:
        """Append results to the file.

        Raises:
            StorageError: they cannot be written.
        """
        with self.path.open("rb") as file:
            start = _checksum(file.readline().rstrip(b"\n"))
        append_lines(self.path, [_with_check(unstructure(result), start) for result in results])

    def plan(self) -> P:
        """The plan in the file.

        Raises:
            ResultsError: the file does not begin with a plan.
            OSError: the file cannot be read.
        """
        self._check_path()
        return self._plan(read_lines(self.path))

    def _plan(self, lines: Sequence[bytes]) -> P:
        try:
            values = dict(parse_json_line(_body(lines[0], 0)))
            if values.pop("kind", None) != self._kind:
                raise ValueError("another kind of file")
            plan = structure(self.plan_type, values)
            plan.check()
        except (ValueError, TypeError, LookupError) as error:
            raise ResultsError(
                f"{self.path.name} does not begin as a file of {self._kind} does "
                f"({_short(error)}): expected one that this package wrote"
            ) from error
        return plan

    def results(self) -> list[R]:
        """The results in the file, each once, without an incomplete last line.

        Raises:
            ResultsError: a line is damaged or belongs to another run; the message gives its number.
            OSError: the file cannot be read.
        """
        self._check_path()
        lines = read_lines(self.path)
        plan, start = self._plan(lines), _checksum(lines[0])
        found: dict[Hashable, R] = {}
        for number, line in enumerate(lines[1:], start=2):
            if line == lines[0]:  # The file was appended to itself.
                continue
            try:
                result = structure(self.result_type, parse_json_line(_body(line, start)))
                known = found.setdefault(plan.key_of(result), result)
                if known != result:
                    raise ValueError("it contradicts an earlier line about the same problem")
            except ValueError as error:
                raise ResultsError(
                    f"line {number} of {self.path.name} is damaged ({_short(error)}): remove the "
                    "line, and what it held is run again"
                ) from error
        return list(found.values())

    def _check_path(self) -> None:
        try:
            check_regular(self.path)
        except ValueError as error:
            raise ResultsError(str(error)) from None

    @property
    def _kind(self) -> str:
        return f"{KIND} {self.result_type.__name__.lower()}s"


def digest(parts: Sequence[Any]) -> str:
    """A short hash that identifies a list of JSON values."""
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()[:16]


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(char if char.isprintable() else "�" for char in text)[:200]


def _with_check(values: dict[str, Any], start: int) -> str:
    """The JSON of an object, with its checksum as the last entry."""
    text = json.dumps(values, ensure_ascii=False)
    try:
        data = text.encode()
    except UnicodeEncodeError:  # Half of a surrogate pair.
        text = json.dumps(values)
        data = text.encode()
    return f'{text[:-1]}{CHECK.decode()}{zlib.crc32(data, start):08x}"}}'


def _checksum(line: bytes) -> int:
    """The checksum that a line states; 0 if there is none."""
    head, mark, _ = line.rpartition(CHECK)
    return zlib.crc32(head + b"}") if mark else 0


def _body(line: bytes, start: int) -> bytes:
    """The JSON of a line without its checksum.

    Args:
        line: of the file.
        start: checksum of the plan's line, for a result; 0 if it has none, and for the plan.

    Raises:
        ValueError: the checksum is another one, or missing though the plan has one.
    """
    line = line.removesuffix(b"\r")
    head, mark, stated = line.rpartition(CHECK)
    if not mark and not start:
        return line
    expected = f'{zlib.crc32(head + b"}", start):08x}"}}'.encode()
    if stated != expected:
        raise ValueError("its checksum is not that of its text in this run")
    return head + b"}"
