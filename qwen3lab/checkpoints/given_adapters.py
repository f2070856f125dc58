"""The adapters that `load` is given: one, several, or several with strengths."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen3lab.arguments import argument
from qwen3lab.checkpoints.adapted_tensors import Strong, checked_strength
from qwen3lab.checkpoints.folders import ADAPTER_CONFIG, find_folder
from qwen3lab.checkpoints.lora import Adapter
from qwen3lab.errors import CheckpointError

AnyAdapters = str | Path | Sequence[str | Path] | Mapping[Any, float | int]
"""A folder or hub id of an adapter, several of them, or strengths by folder or hub id."""


def open_adapters(adapter: AnyAdapters | None, *, source: str | None = None) -> tuple[Strong, ...]:
    """The adapters of an argument, with their strengths.

    Raises:
        CheckpointError: no such adapter, or one that cannot be added.
        ValueError: the argument is none of `AnyAdapters`, or a strength is not finite.
    """
    if adapter is None:
        return ()
    if isinstance(adapter, Mapping):
        pairs = list(adapter.items())
    else:
        given = argument(str | Path | Sequence[str | Path], "adapter", adapter)
        pairs = [(each, 1.0) for each in ([given] if isinstance(given, str | Path) else given)]
    opened = ((each, Adapter.open(find_folder(each, source=source)), by) for each, by in pairs)
    return tuple(
        Strong(found, checked_strength(by, f"the strength of {each}"), str(each))
        for each, found, by in opened
    )


def base_and_adapter(
    name: str | Path,
    adapter: AnyAdapters | None,
    *,
    revision: str | None = None,
    source: str | None = None,
) -> tuple[str | Path, AnyAdapters | None]:
    """The base model and the adapter that are meant by a name, which may be that of an adapter.

    Raises:
        CheckpointError: no such model or adapter, or an adapter that names no base model.
    """
    folder = find_folder(name, revision=revision, weights=False, source=source)
    if not (folder / ADAPTER_CONFIG).exists() or (folder / "config.json").exists():
        return name, adapter
    if adapter is not None:
        raise CheckpointError(
            f"{name} is an adapter itself: give its base model, and both as adapter=[...]"
        )
    base = Adapter.open(find_folder(name, revision=revision, source=source)).base
    if not base:
        raise CheckpointError(
            f"the adapter {name} does not name its base model: load that model, and give the "
            "adapter as adapter="
        )
    return base, name
