"""Where a model's files are: an embedded model, a local folder, or the Hugging Face hub."""

from pathlib import Path

from qwen3lab.checkpoints.embedded import EMBEDDED, embedded_models, embedded_revisions
from qwen3lab.errors import CheckpointError

WANTED_FILES = ("config.json", "generation_config.json", "tokenizer*", "vocab.json", "merges.txt")


def find_folder(name: str | Path, *, revision: str | None = None) -> Path:
    """The folder that holds a model's files, downloaded from the hub where need be.

    Raises:
        CheckpointError: no such folder, model or revision, or the hub cannot be reached.
    """
    text, folder = str(name), Path(name).expanduser()
    if revision is not None and text in embedded_models():
        return _earlier(text, revision)
    if folder.is_dir():
        return _without_revision(folder, revision)
    if text in embedded_models():
        return EMBEDDED / text
    if folder.is_absolute() or text.startswith((".", "~")) or text.count("/") != 1:
        raise CheckpointError(
            f"{text!r} is neither a folder nor an embedded model "
            f"({', '.join(embedded_models()) or 'none is installed'}): give one of these, or a "
            "hub id such as 'Qwen/Qwen3-0.6B'"
        )
    return _download(text, revision)


def _without_revision(folder: Path, revision: str | None) -> Path:
    if revision is not None:
        raise CheckpointError(
            f"{folder} is a folder here, which has no revision {revision!r}: leave the revision "
            "out, or give the path of the folder that holds it"
        )
    return folder


def _earlier(name: str, revision: str) -> Path:
    known = embedded_revisions(name)
    if revision not in known:
        raise CheckpointError(
            f"{name} has no revision {revision!r}: choose from {', '.join(known) or 'none'}"
        )
    return EMBEDDED / name / revision


def _download(hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                hub_id,
                revision=revision,
                allow_patterns=[*WANTED_FILES, "*.safetensors", "*.safetensors.index.json"],
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{hub_id} is not in the local cache and could not be fetched from the hub "
            f"({type(error).__name__}): check the name and the network, or give the path of a "
            "folder that holds config.json, tokenizer.json and the safetensors files"
        ) from error
