"""Data sets in parts: Parquet, JSON Lines and text files, and rows in memory, which are stored."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3lab.display.plain import one_line
from qwen3lab.errors import CorpusError
from qwen3lab.storage.atomic_files import whole_file
from qwen3lab.storage.json_lines import parse_json_line
from qwen3lab.translation import tr

KINDS = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "text"}
STORED_ROWS = "source"
"""Name of the file, in the run's folder, of rows that were given in memory."""
TEXT, FILE = "text", "file"
"""Columns of a row that is a text file."""
MAX_REASON = 200

Row = Mapping[str, Any] | str
"""Values by column; or, of a row that cannot be read, the reason."""


@dataclass(frozen=True)
class Part:
    """Rows of a data set that are run together.

    Attributes:
        number: from 0 on.
        first_row: number of its first row in the data set.
        n_rows: number of its rows.
        file: number of the file that holds them; the first of them, for text files.
        start: where they start: a byte of JSON Lines, a row of Parquet.
    """

    number: int
    first_row: int
    n_rows: int
    file: int
    start: int


@dataclass(frozen=True)
class Source:
    """A data set of one kind of files.

    Attributes:
        kind: "parquet", "jsonl" or "text".
        files: in order.
        digest: of names and contents; two data sets of the same digest have the same rows.
        parts: their rows, in order.
    """

    kind: str
    files: tuple[str, ...]
    digest: str
    parts: tuple[Part, ...]

    @property
    def n_rows(self) -> int:
        """Rows of the data set."""
        return sum(part.n_rows for part in self.parts)

    def rows(self, part: Part, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
        """The number and the values of each row of a part.

        Raises:
            CorpusError: a file has changed, or cannot be read.
        """
        read = {"parquet": _parquet_rows, "jsonl": _json_rows, "text": _text_rows}[self.kind]
        try:
            found = read(self.files, part, columns)
            for number, row in zip(range(part.n_rows), found, strict=True):
                yield part.first_row + number, row
        except (OSError, ValueError, LookupError) as error:
            raise CorpusError(
                tr(
                    "rows {first} to {last} of {file} cannot be read ({reason}): see that the "
                    "file is there and did not change",
                    first=part.first_row,
                    last=part.first_row + part.n_rows - 1,
                    file=self.files[part.file],
                    reason=_short(error),
                )
            ) from error


def open_source(
    data: object, columns: Sequence[str], *, part_rows: int, store_in: Path | None = None
) -> Source:
    """A data set, divided into parts.

    Args:
        data: a file or a folder of `KINDS`; or, in memory, a sequence of texts or of mappings, or
            an object with `to_parquet`, such as a data set of Hugging Face or a table of pandas.
        columns: that are needed.
        part_rows: rows of a part, at most.
        store_in: folder for rows that are given in memory.

    Raises:
        CorpusError: no such file, a file of another kind, no rows, or a Parquet file without a
            column.
    """
    files = _files(data if isinstance(data, str | Path) else _stored(data, store_in))
    kind = KINDS[files[0].suffix]
    try:
        digest, parts = _scanned(kind, files, columns, part_rows)
    except OSError as error:
        raise CorpusError(
            tr("the data set cannot be read: {reason}", reason=_short(error))
        ) from error
    if not parts:
        raise CorpusError(
            tr("{file} has no rows: expected a data set with at least one", file=files[0])
        )
    return Source(kind, tuple(map(str, files)), digest, tuple(parts))


def _files(data: str | Path) -> list[Path]:
    path = Path(data).expanduser()
    found = [path]
    if path.is_dir():
        found = sorted(each for each in path.iterdir() if each.suffix in KINDS and each.is_file())
    kinds = {KINDS.get(each.suffix) for each in found}
    if not path.exists() or not found or len(kinds) != 1 or None in kinds:
        raise CorpusError(
            tr(
                "{path} is no data set: expected a file, or a folder with files of one kind, that "
                "end with {choices}",
                path=path,
                choices=", ".join(KINDS),
            )
        )
    return [each.resolve() for each in found]


def _stored(data: Any, folder: Path | None) -> Path:
    """Rows in memory, written to a file, so that a run can be resumed and a cluster can read it."""
    if folder is None:
        raise CorpusError(tr("rows in memory need a folder to be stored in"))
    if isinstance(data, Mapping):
        raise CorpusError(
            tr("the data set is a mapping: give one of its splits, or a list of rows")
        )
    if hasattr(data, "to_parquet"):
        path = folder / f"{STORED_ROWS}.parquet"
        return _written_once(path, lambda part: data.to_parquet(str(part)))
    if not isinstance(data, Iterable):
        raise CorpusError(
            tr(
                "the data set is of type {kind}: expected a path, a list of texts or rows, or "
                "a Hugging Face data set",
                kind=type(data).__name__,
            )
        )
    return _written_once(folder / f"{STORED_ROWS}.jsonl", lambda part: _write_lines(part, data))


def _write_lines(path: Path, rows: Iterable[Any]) -> None:
    """Write texts or rows as JSON Lines, one at a time, so that an iterator takes no memory."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            try:
                line = json.dumps({TEXT: row} if isinstance(row, str) else row, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise CorpusError(
                    tr("a row in memory is no JSON value: {reason}", reason=_short(error))
                ) from error
            file.write(f"{line}\n")


def _written_once(path: Path, write: Callable[[Path], object]) -> Path:
    """A file with these rows; one that an earlier call wrote must hold the same."""
    new = path.with_name(f"new-{path.name}") if path.exists() else path
    with whole_file(new, error=CorpusError) as part:
        write(part)
    if new == path:
        return path
    same = _digest_of(new) == _digest_of(path)
    new.unlink()
    if not same:
        raise CorpusError(
            tr("{path} holds other rows: choose another folder for this data set", path=path)
        )
    return path


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def _scanned(
    kind: str, files: Sequence[Path], columns: Sequence[str], part_rows: int
) -> tuple[str, list[Part]]:
    """The digest of the files, and the parts of their rows."""
    digest, parts = hashlib.sha256(kind.encode()), list[Part]()
    if kind == "text":
        for first in range(0, len(files), part_rows):
            parts.append(Part(len(parts), first, min(part_rows, len(files) - first), first, 0))
    for number, path in enumerate(files):
        digest.update(f"\n{path.name}\n".encode())
        first_row = parts[-1].first_row + parts[-1].n_rows if parts else 0
        if kind == "jsonl":
            for start, n in _scan_lines(path, part_rows, digest):
                parts.append(Part(len(parts), first_row, n, number, start))
                first_row += n
            continue
        digest.update(_digest_of(path).encode())
        if kind == "parquet":
            n_rows = _parquet_length(path, columns)
            for start in range(0, n_rows, part_rows):
                n = min(part_rows, n_rows - start)
                parts.append(Part(len(parts), first_row + start, n, number, start))
    return digest.hexdigest(), parts


def _scan_lines(path: Path, part_rows: int, digest: Any) -> Iterator[tuple[int, int]]:
    """Byte and number of rows of each part of a JSON Lines file; empty lines are no rows."""
    start = at = n = 0
    with path.open("rb") as file:
        for line in file:
            digest.update(line)
            if line.strip():
                if n == part_rows:
                    yield start, n
                    start, n = at, 0
                n += 1
            at += len(line)
    if n:
        yield start, n


def _json_rows(files: Sequence[str], part: Part, columns: Sequence[str]) -> Iterator[Row]:
    with Path(files[part.file]).open("rb") as file:
        file.seek(part.start)
        left = part.n_rows
        while left:
            line = file.readline()
            if not line:
                raise ValueError(tr("it ends too early"))
            if line.strip():
                left -= 1
                yield _json_row(line.strip())


def _json_row(line: bytes) -> Row:
    try:
        value = parse_json_line(line)
    except ValueError as error:
        return f"the line {_short(error)}"
    return value if isinstance(value, Mapping) else "the line is no JSON object"


def _text_rows(files: Sequence[str], part: Part, columns: Sequence[str]) -> Iterator[Row]:
    for path in map(Path, files[part.file : part.file + part.n_rows]):
        try:
            yield {TEXT: path.read_bytes().decode("utf-8"), FILE: path.name}
        except UnicodeDecodeError as error:
            yield f"{path.name} is not UTF-8 text ({error.reason} at byte {error.start + 1})"


def _parquet_length(path: Path, columns: Sequence[str]) -> int:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names, n_rows = file.schema_arrow.names, file.metadata.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise CorpusError(
            tr("{path} is no Parquet file ({reason})", path=path, reason=_short(error))
        ) from error
    if missing := [name for name in columns if name not in names]:
        listed = one_line(", ".join(names), width=MAX_REASON)
        raise CorpusError(
            tr(
                "{path} has no column {missing!r}: its columns are {listed}",
                path=path,
                missing=missing[0],
                listed=listed,
            )
        )
    return n_rows


def _parquet_rows(files: Sequence[str], part: Part, columns: Sequence[str]) -> Iterator[Row]:
    """Reads the row groups that hold the part, and only the needed columns."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(files[part.file]) as file:
        end, first, groups, skipped = part.start + part.n_rows, 0, [], 0
        for group in range(file.num_row_groups):
            after = first + file.metadata.row_group(group).num_rows
            if after <= part.start:
                skipped = after
            elif first < end:
                groups.append(group)
            first = after
        table = file.read_row_groups(groups, columns=list(dict.fromkeys(columns)))
    yield from table.slice(part.start - skipped, part.n_rows).to_pylist()


def _short(error: Exception) -> str:
    return one_line(str(error) or type(error).__name__, width=MAX_REASON)
