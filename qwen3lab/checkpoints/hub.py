"""Fetches files of a model from the Hugging Face hub or from ModelScope.

Both libraries show progress, go on with an interrupted download, and keep what they fetched in a
cache of their own. Code that lies beside a model is neither fetched nor run.
"""

import inspect
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from qwen3lab.display.plain import one_line
from qwen3lab.errors import CheckpointError

HUGGING_FACE, MODELSCOPE = "huggingface", "modelscope"
SOURCES = (HUGGING_FACE, MODELSCOPE)
VARIABLES = ("USE_MODELSCOPE_HUB", "VLLM_USE_MODELSCOPE")
"""Environment variables by which training tools and vLLM fetch from ModelScope."""


def source_of(source: str | None) -> str:
    """Where models are fetched from: as given, else as the environment says.

    Raises:
        CheckpointError: an unknown source.
    """
    if source is None:
        given = [os.environ.get(name, "").strip().lower() for name in VARIABLES]
        return MODELSCOPE if {"1", "true"} & set(given) else HUGGING_FACE
    if source not in SOURCES:
        raise CheckpointError(
            f"source is {one_line(str(source), width=60)!r}: choose from {', '.join(SOURCES)}"
        )
    return source


def fetch(
    model_id: str, revision: str | None, patterns: Sequence[str], *, source: str | None = None
) -> Path:
    """The folder with the files of a model that match patterns; fetches what is not cached.

    Args:
        model_id: such as "Qwen/Qwen3-0.6B".
        revision: branch, tag or commit; None for the main branch.
        patterns: of names of files.
        source: of `SOURCES`; None for what the environment says.

    Raises:
        CheckpointError: no such model, no network, or too little room on the disk.
    """
    if source_of(source) == MODELSCOPE:
        return _from_modelscope(model_id, revision, patterns)
    return _from_hugging_face(model_id, revision, patterns)


def listed_files(model_id: str, revision: str | None, *, source: str | None = None) -> list[str]:
    """The names of a model's files: as the hub lists them, or, without network, as cached.

    Raises:
        CheckpointError: no such model, or no network and none cached.
    """
    if source_of(source) == MODELSCOPE:
        return sorted(_sizes_on_modelscope(model_id, revision))
    from huggingface_hub import list_repo_files

    try:
        return sorted(list_repo_files(model_id, revision=revision))
    except Exception as error:  # Without network, errors of the library that it uses for HTTP.
        try:
            folder = _cached(model_id, revision)
        except _hub_errors():
            raise _unreachable(model_id, "the hub", error) from error
        return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def _from_hugging_face(model_id: str, revision: str | None, patterns: Sequence[str]) -> Path:
    from huggingface_hub import constants, snapshot_download

    options: dict[str, Any] = {"revision": revision, "allow_patterns": list(patterns)}
    try:
        if "dry_run" in inspect.signature(snapshot_download).parameters:
            missing = _bytes_to_fetch(snapshot_download, model_id, options)
            _require_room(model_id, missing, Path(constants.HF_HUB_CACHE), "HF_HOME")
        return Path(snapshot_download(model_id, **options))
    except _hub_errors() as error:
        raise _unreachable(model_id, "the hub", error) from error


def _bytes_to_fetch(
    snapshot_download: Callable[..., Any], model_id: str, options: dict[str, Any]
) -> int:
    """Bytes of the files that are not cached; 0 where that cannot be known, as without network."""
    try:
        files = snapshot_download(model_id, **options, dry_run=True)
    except _hub_errors():
        return 0  # The download itself says what is wrong, or finds the files in the cache.
    return sum(each.file_size or 0 for each in files if each.will_download)


def _cached(model_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model_id, revision=revision, local_files_only=True))


def _hub_errors() -> tuple[type[Exception], ...]:
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    return (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError)


def _from_modelscope(model_id: str, revision: str | None, patterns: Sequence[str]) -> Path:
    snapshot_download, _ = _modelscope()
    options: dict[str, Any] = {"allow_patterns": list(patterns)}
    options |= {} if revision is None else {"revision": revision}
    cached = _cached_by_modelscope(snapshot_download, model_id, options)
    try:
        sizes = _sizes_on_modelscope(model_id, revision)
    except CheckpointError:
        if cached is None:
            raise
        return cached  # Without network; what is missing there is named when it is read.
    wanted = {n: s for n, s in sizes.items() if any(fnmatch(n, each) for each in patterns)}
    missing = sum(size for name, size in wanted.items() if not _holds(cached, name, size))
    folder = Path(os.environ.get("MODELSCOPE_CACHE") or Path.home() / ".cache" / "modelscope")
    _require_room(model_id, missing, folder, "MODELSCOPE_CACHE")
    try:
        return Path(snapshot_download(model_id, **options))
    except Exception as error:  # The library's own kinds of errors have no common base.
        raise _unreachable(model_id, "ModelScope", error) from error


def _cached_by_modelscope(
    snapshot_download: Callable[..., Any], model_id: str, options: Mapping[str, Any]
) -> Path | None:
    try:
        return Path(snapshot_download(model_id, **options, local_files_only=True))
    except Exception:  # Not cached; see above.
        return None


def _holds(folder: Path | None, name: str, size: int) -> bool:
    path = None if folder is None else folder / name
    return path is not None and path.is_file() and path.stat().st_size == size


def _sizes_on_modelscope(model_id: str, revision: str | None) -> dict[str, int]:
    """The size in bytes of each file of a model."""
    _, api = _modelscope()
    try:
        options = {} if revision is None else {"revision": revision}
        files = api().get_model_files(model_id, recursive=True, **options)
        return {str(f["Path"]): int(f.get("Size") or 0) for f in files if f.get("Type") != "tree"}
    except Exception as error:  # See above.
        raise _unreachable(model_id, "ModelScope", error) from error


def _modelscope() -> tuple[Callable[..., Any], Callable[[], Any]]:
    """`snapshot_download` and `HubApi` of the package modelscope."""
    try:
        from modelscope.hub.api import HubApi  # pyright: ignore[reportMissingImports]
        from modelscope.hub.snapshot_download import (  # pyright: ignore[reportMissingImports]
            snapshot_download,
        )
    except ImportError as error:
        raise CheckpointError(
            "models of ModelScope are fetched by the package modelscope: pip install "
            "'qwen3lab[modelscope]', or load the model from the Hugging Face hub"
        ) from error
    return snapshot_download, HubApi


def _require_room(model_id: str, n_bytes: int, folder: Path, variable: str) -> None:
    """Check that there is room for a download."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if n_bytes > free:
        raise CheckpointError(
            f"{model_id} needs {n_bytes / 1e9:.1f} GB more on the disk, and {folder} has "
            f"{free / 1e9:.1f} GB free: make room, or set {variable} to a folder on another disk"
        )


def _unreachable(model_id: str, where: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{model_id} is not in the local cache and could not be fetched from {where} "
        f"({type(error).__name__}): check the name and the network, or give the path of a "
        "folder that holds config.json, tokenizer.json and the safetensors files"
    )
