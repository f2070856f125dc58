"""Fields and places of tensors of a GGUF file, whole or in parts.

Source: llama.cpp's `gguf-py` (`gguf_reader.py`, and `gguf_writer.py` for names of parts).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3lab.checkpoints.gguf_bounds import check_bounds
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CheckpointError

PART = re.compile(r"(?P<stem>.+)-(?P<place>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
"""The name of a part, as every writer of parts gives it; places count from 1."""
COUNT, PLACE, N_TENSORS = "split.count", "split.no", "split.tensors.count"


@dataclass(frozen=True)
class StackedRows:
    """Where a tensor's rows are.

    Attributes:
        kind: the package's type of the values.
        shape: of the tensor, as torch has it.
        path: of the file.
        offset: of the first byte.
        n_bytes: of the tensor.
        entry: place in the first axis of a stack of experts; None for a whole tensor.
    """

    kind: Any
    shape: tuple[int, ...]
    path: Path
    offset: int
    n_bytes: int
    entry: int | None = None


@dataclass(frozen=True)
class GgufHeader:
    """What is known of a file before its values are read.

    Attributes:
        paths: of all parts, in order.
        fields: plain fields, of the first part.
        tensors: by llama.cpp's names.
    """

    paths: tuple[Path, ...]
    fields: Mapping[str, Any]
    tensors: Mapping[str, StackedRows]


def read_parts(path: Path) -> GgufHeader:
    """The header of a file, or of all parts of which it is one.

    Raises:
        CheckpointError: a file is damaged, or a part is missing or of another model.
    """
    first = read_header(path)
    count = first.fields.get(COUNT, 1)
    if count in (0, 1):
        return first
    paths = _paths_of_parts(path, count)
    headers = [first if each == path else read_header(each) for each in paths]
    tensors: dict[str, StackedRows] = {}
    for place, header in enumerate(headers):
        if header.fields.get(COUNT) != count or header.fields.get(PLACE) != place:
            raise CheckpointError(
                f"{paths[place]} is not part {place + 1} of {count} of a GGUF file, as its name "
                "says: fetch all parts again"
            )
        if twice := tensors.keys() & header.tensors.keys():
            raise CheckpointError(
                f"{paths[place]} holds {one_line(min(twice), width=120)}, which another part holds "
                "too: fetch all parts again"
            )
        tensors |= header.tensors
    expected = headers[0].fields.get(N_TENSORS, len(tensors))
    if expected != len(tensors):
        raise CheckpointError(
            f"{paths[0]} and its other parts hold {len(tensors)} tensors, and {N_TENSORS} says "
            f"{one_line(str(expected), width=60)}: fetch all parts again"
        )
    return GgufHeader(paths, headers[0].fields, tensors)


def read_header(path: Path) -> GgufHeader:
    """The header of one file.

    Raises:
        CheckpointError: the file is damaged.
    """
    from gguf import GGUFReader

    try:
        if not path.is_file():
            raise CheckpointError(f"{path} is not a file: expected a .gguf file")
        check_bounds(path)
        reader = GGUFReader(path)
        fields = {
            name: field.contents()
            for name, field in reader.fields.items()
            if not name.startswith("tokenizer.")
        }
        stored = {
            each.name: StackedRows(
                kind=each.tensor_type,
                shape=tuple(int(size) for size in reversed(each.shape)),
                path=path,
                offset=int(each.data_offset),
                n_bytes=int(each.n_bytes),
            )
            for each in reader.tensors
        }
    except (ValueError, KeyError, IndexError, OverflowError, TypeError, OSError) as error:
        reason = one_line(str(error), width=200)
        raise CheckpointError(
            f"{path} is no complete GGUF file ({reason}): fetch it again"
        ) from error
    return GgufHeader((path,), fields, stored)


def _paths_of_parts(path: Path, count: Any) -> tuple[Path, ...]:
    """The paths of all parts, all of which exist."""
    match = PART.fullmatch(path.name)
    if match is None or type(count) is not int or int(match["count"]) != count:
        raise CheckpointError(
            f"{path} is one of {one_line(str(count), width=60)} parts of a GGUF file, which its "
            "name does not say: give the parts their names, such as model-00001-of-00003.gguf"
        )
    names = [f"{match['stem']}-{n:05d}-of-{count:05d}{path.suffix}" for n in range(1, count + 1)]
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{path.parent / missing[0]} is missing, one of the {count} parts of a GGUF file "
            f"({len(missing)} are missing in all): fetch all parts into one folder"
        )
    return tuple(path.parent / name for name in names)
