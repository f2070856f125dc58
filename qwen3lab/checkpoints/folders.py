"""Finds a model's files: an embedded model, a local folder, or the Hugging Face hub."""

import shutil
from pathlib import Path

from qwen3lab.arguments import argument
from qwen3lab.checkpoints.embedded import EMBEDDED, embedded_models, embedded_revisions
from qwen3lab.checkpoints.gguf_folder import folder_of, is_gguf
from qwen3lab.checkpoints.hub import fetch
from qwen3lab.checkpoints.hub_gguf import fetch_gguf, gguf_of_hub
from qwen3lab.errors import CheckpointError
from qwen3lab.translation import tr

ADAPTER_CONFIG = "adapter_config.json"
CONFIG_AND_TOKENIZER_FILES = (
    "config.json",
    ADAPTER_CONFIG,
    "generation_config.json",
    "tokenizer*",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*",
)
"""Small files, which are fetched and read before the weights."""
WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json")


def find_folder(
    name: str | Path,
    *,
    revision: str | None = None,
    weights: bool = True,
    source: str | None = None,
) -> Path:
    """The folder with a model's files; downloads them from the hub if they are not cached.

    Args:
        name: a local folder, an embedded model, a hub id, or a GGUF file: a path, or one of the
            hub as `owner/name:Q4_K_M` or `owner/name/file.gguf`.
        revision: branch, tag or commit on the hub, or a revision of an embedded model.
        weights: False to fetch only config and tokenizer from the hub.
        source: of `hub.SOURCES`; None for what the environment says, else the Hugging Face hub.

    Raises:
        CheckpointError: no such folder, model or revision, or the hub cannot be reached.
    """
    name = argument(str | Path, "name", name)
    revision = argument(str | None, "revision", revision)
    text, folder = str(name), Path(name).expanduser()
    if is_gguf(folder) and folder.is_file():
        return folder_of(_without_revision(folder, revision))
    if revision is not None and text in embedded_models():
        return _embedded_revision(text, revision)
    if folder.is_dir():
        return _without_revision(folder, revision)
    if text in embedded_models():
        return EMBEDDED / text
    is_path = folder.is_absolute() or text.startswith((".", "~"))
    wanted = None if is_path else gguf_of_hub(text)
    if wanted is not None:
        return folder_of(fetch_gguf(wanted, revision, source=source))
    if is_path or text.count("/") != 1:
        raise CheckpointError(
            tr(
                "{text!r} is neither a folder nor an embedded model ({value}): give a "
                "folder, a .gguf file, an embedded model, or a hub id such as "
                "'Qwen/Qwen3-0.6B'",
                text=text,
                value=", ".join(embedded_models()) or "none is installed",
            )
        )
    patterns = [*CONFIG_AND_TOKENIZER_FILES, *(WEIGHT_FILES if weights else ())]
    return fetch(text, revision, patterns, source=source)


def copy_tokenizer(folder: Path, target: Path) -> None:
    """Copy all but config.json that a model has beside its weights, such as its tokenizer.

    Raises:
        CheckpointError: a file cannot be copied.
    """
    for pattern in CONFIG_AND_TOKENIZER_FILES:
        for path in sorted(folder.glob(pattern)):
            copy = target / path.relative_to(folder)
            if path.name in ("config.json", ADAPTER_CONFIG) or not path.is_file() or copy == path:
                continue
            try:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            except OSError as error:
                raise CheckpointError(
                    tr("{copy} cannot be written ({strerror})", copy=copy, strerror=error.strerror)
                ) from error


def _without_revision(folder: Path, revision: str | None) -> Path:
    if revision is not None:
        raise CheckpointError(
            tr(
                "{folder} is a local folder and has no revision {revision!r}: leave the "
                "revision out, or give the path of the folder that holds it",
                folder=folder,
                revision=revision,
            )
        )
    return folder


def _embedded_revision(name: str, revision: str) -> Path:
    known = embedded_revisions(name)
    if revision not in known:
        raise CheckpointError(
            tr(
                "{name} has no revision {revision!r}: choose from {value}",
                name=name,
                revision=revision,
                value=", ".join(known) or "none",
            )
        )
    return EMBEDDED / name / revision
