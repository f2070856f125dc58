"""GGUF files of a hub: `owner/name:Q4_K_M`, as llama.cpp has it, or `owner/name/file.gguf`."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from qwen3lab.checkpoints.gguf_folder import SUFFIX, TOKENIZER_FILES
from qwen3lab.checkpoints.gguf_header import PART
from qwen3lab.checkpoints.hub import fetch, listed_files
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CheckpointError

TAGGED = re.compile(r"([^/:\\]+/[^/:\\]+):([\w.-]+)")
NOT_MODELS = ("mmproj", "imatrix")
"""Beginnings of the names of files that are no language models."""
MAX_NAMED = 12


class HubGguf(NamedTuple):
    """A GGUF model of a hub.

    Attributes:
        model_id: such as "Qwen/Qwen3-0.6B-GGUF".
        tag: end of the file's name, such as "Q4_K_M"; empty if the file is given.
        file: path in the repository; empty if a tag is given.
    """

    model_id: str
    tag: str = ""
    file: str = ""


def gguf_of_hub(name: str) -> HubGguf | None:
    """What a name means as one of a hub's GGUF files; None if it is no such name."""
    if match := TAGGED.fullmatch(name):
        return HubGguf(match[1], tag=match[2])
    owner, _, rest = name.partition("/")
    repository, _, file = rest.partition("/")
    if owner and repository and file.lower().endswith(SUFFIX):
        return HubGguf(f"{owner}/{repository}", file=file)
    return None


def fetch_gguf(wanted: HubGguf, revision: str | None, *, source: str | None = None) -> Path:
    """The path of a GGUF file, or of its first part; fetches what is not cached.

    Raises:
        CheckpointError: no such model or file, several that fit a tag, or no network.
    """
    files = chosen_files(wanted, listed_files(wanted.model_id, revision, source=source))
    patterns = [glob.escape(file) for file in files]
    folder = fetch(wanted.model_id, revision, [*patterns, *TOKENIZER_FILES], source=source)
    return folder / files[0]


def chosen_files(wanted: HubGguf, listed: Sequence[str]) -> list[str]:
    """The files that hold a model, all of its parts in order.

    Raises:
        CheckpointError: no file fits, or files of several models do.
    """
    models: dict[str, list[str]] = {}
    for file in sorted(listed):
        path = PurePosixPath(file)
        if path.suffix.lower() == SUFFIX and not path.name.lower().startswith(NOT_MODELS):
            match = PART.fullmatch(path.name)
            stem = match["stem"] if match else path.stem
            models.setdefault(str(path.with_name(stem)), []).append(file)
    if wanted.file:
        fitting = [model for model, files in models.items() if wanted.file in files]
    else:
        end = re.compile(rf"(?:.*[-._/])?{re.escape(wanted.tag)}", re.IGNORECASE)
        fitting = [model for model in models if end.fullmatch(model)]
    if len(fitting) == 1:
        return models[fitting[0]]
    meant = wanted.file or wanted.tag
    if not models:
        raise CheckpointError(f"{wanted.model_id} holds no GGUF files: leave {meant!r} out")
    names = [PurePosixPath(name).name for name in fitting or models]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    shown = ", ".join(one_line(name, width=60) for name in names[:MAX_NAMED]) + more
    how = "several GGUF files that" if fitting else "no GGUF file that"
    raise CheckpointError(
        f"{wanted.model_id} holds {how} {one_line(meant, width=60)!r} means, of {shown}: give the "
        "whole path, such as owner/name/file.gguf"
    )
