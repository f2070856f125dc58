"""Answers of students as small files in a folder: written by them, read with distrust."""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from qwen3lab.errors import StorageError
from qwen3lab.storage.atomic_files import write_text
from qwen3lab.storage.json_dataclasses import structure, unstructure
from qwen3lab.tiny import mark
from qwen3lab.translation import tr

FORMAT = 1
ENDING = ".answer.json"
MAX_BYTES = 16 * 1024
"""Size of a file; texts are cut so that they stay below it."""

MAX_TEXT = 1500
"""Characters of a question or an answer."""

MAX_NAME = 40
"""Characters of a name."""

MAX_FILES = 5000
"""Files that are read of a folder."""

MAX_COUNT = 10**9


@dataclass(frozen=True)
class Answer:
    """The latest answer of one student.

    Attributes:
        name: of the student, as typed.
        question: that was asked.
        answer: of the model.
        thinking: True if the model was asked to think first.
        thinking_tokens: number of tokens of the thinking.
        model: name of the model.
        stop: why the reply ended.
        format: of the file.
    """

    name: str
    question: str
    answer: str
    thinking: bool
    thinking_tokens: int
    model: str
    stop: str
    format: int = FORMAT

    @property
    def verdict(self) -> str:
        """ "right", "wrong" or "not checked", computed here from the question."""
        return mark(self.question, self.answer)


def check_name(name: str) -> str:
    """The name without spaces at its ends.

    Raises:
        StorageError: the name is empty, too long, or has characters that are not printed.
    """
    found = name.strip() if isinstance(name, str) else ""
    if not found or len(found) > MAX_NAME or not found.isprintable():
        raise StorageError(
            tr(
                "the name is {name}: expected 1 to {most} printable characters, such as 'Li'",
                name=repr(name)[:60],
                most=MAX_NAME,
            )
        )
    return found


def path_of(folder: Path, name: str) -> Path:
    """The file of a student: no name leads out of the folder."""
    return folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}{ENDING}"


def write_answer(folder: Path, answer: Answer) -> Path:
    """Write a student's latest answer, in place of the one before, and return its file.

    Raises:
        StorageError: the name cannot be used, or the folder cannot be written to.
    """
    check_name(answer.name)
    path = path_of(folder, answer.name)
    write_text(path, json.dumps(unstructure(answer), ensure_ascii=False))
    return path


class AnswerFolder:
    """Reads the answers in a folder; a file that did not change is not read again.

    Args:
        folder: that the class shares.

    Raises:
        StorageError: there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise StorageError(tr("{folder} is not a folder: make it first", folder=folder))
        self.folder = folder
        self._known: dict[str, tuple[tuple[int, int], Answer | str]] = {}

    def read(self) -> tuple[list[Answer], list[str]]:
        """The answers by name, and one sentence for each file that was refused."""
        found: dict[str, tuple[tuple[int, int], Answer | str]] = {}
        for entry in self._entries():
            status = entry.stat(follow_symlinks=False)
            stamp = (status.st_mtime_ns, status.st_size)
            known = self._known.get(entry.name)
            same = known is not None and known[0] == stamp
            found[entry.name] = known if same and known else (stamp, _read(entry, status))
        self._known = found
        read = [value for _, value in found.values()]
        answers = [each for each in read if isinstance(each, Answer)]
        return sorted(answers, key=lambda each: each.name), [e for e in read if isinstance(e, str)]

    def _entries(self) -> Iterator["os.DirEntry[str]"]:
        with os.scandir(self.folder) as entries:
            named = (entry for entry in entries if entry.name.endswith(ENDING))
            for count, entry in enumerate(named):
                if count == MAX_FILES:
                    return
                yield entry


def _read(entry: "os.DirEntry[str]", status: os.stat_result) -> Answer | str:
    """The answer in a file, or why it was refused."""
    if not stat.S_ISREG(status.st_mode):
        # A link could show any file of the teacher's, and a pipe would block.
        return tr("{file} was left out: it is no plain file", file=entry.name)
    if status.st_size > MAX_BYTES:
        return tr(
            "{file} was left out: it has {size:,} bytes, and an answer has at most {most:,}",
            file=entry.name,
            size=status.st_size,
            most=MAX_BYTES,
        )
    try:
        return _checked(Path(entry.path))
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        return tr("{file} was left out: {reason}", file=entry.name, reason=reason)


def _checked(path: Path) -> Answer:
    with path.open("rb") as file:
        text = file.read(MAX_BYTES + 1).decode("utf-8")
    answer = structure(Answer, json.loads(text))
    for field in fields(answer):
        value = getattr(answer, field.name)
        if isinstance(value, str) and len(value) > MAX_TEXT:
            raise ValueError(tr("its {field} is too long", field=field.name))
    if answer.format != FORMAT or not 0 <= answer.thinking_tokens <= MAX_COUNT:
        raise ValueError(tr("it is of another format"))
    if path.name != path_of(path.parent, check_name(answer.name)).name:
        raise ValueError(tr("its name is that of another student's file"))
    return answer
