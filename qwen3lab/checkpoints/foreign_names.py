"""Explains tensors that are missing or surplus: wrappers, adapters, models without an lm_head."""

from collections.abc import Set

from qwen3lab.checkpoints.tensor_names import TIED_UNEMBEDDING
from qwen3lab.checkpoints.wrapper_names import ADAPTERS, WRAPPERS
from qwen3lab.display.plain import one_line


def missing(part: str, available: Set[str], source: str) -> str:
    """The sentence that explains a tensor that is not among those available."""
    if sentence := _adapter(available, source):
        return sentence
    if found := _wrapped(part, available):
        stored, prefix, wrapper = found
        return (
            f"{part} is missing from {source}, which holds it as {_shown(stored)}: the names have "
            f"{prefix!r} of a wrapper ({wrapper}), which is removed only where all names have it; "
            "save the model without the wrapper, or rename its tensors"
        )
    if part == TIED_UNEMBEDDING:
        return (
            f"{part} is missing from {source}, and its config.json does not tie the embeddings: a "
            "model without unembedding, such as an embedding model, has no logits; choose a model "
            "that writes text"
        )
    like = min(available, default="", key=lambda name: (not _alike(name, part), name))
    held = f"holds {len(available)} tensors, such as {_shown(like)}" if like else "holds no tensors"
    return (
        f"{part} is missing from {source}, which {held}: check that config.json and weights belong "
        "together and that no file is missing"
    )


def surplus(unused: Set[str], source: str) -> str:
    """The sentence that explains tensors that a model does not have."""
    return _adapter(unused, source) or (
        f"{source} holds {_shown(min(unused))}, which a model of this config.json does not have"
        f" ({len(unused)} such tensors in all): check that config and weights belong together"
    )


def _adapter(names: Set[str], source: str) -> str:
    found = min((n for n in names if any(part in n for part in ADAPTERS)), default="")
    if not found:
        return ""
    return (
        f"{source} holds {_shown(found)}, of an adapter such as LoRA that is not merged into the "
        "model: merge it first (peft: model.merge_and_unload())"
    )


def _wrapped(part: str, available: Set[str]) -> tuple[str, str, str] | None:
    """The stored name of a tensor behind a wrapper, the wrapper's part of it, and the wrapper."""
    wanted = (part, part.removeprefix("model."))
    for stored in sorted(available):
        inner = stored
        for infix in WRAPPERS:
            inner = inner.replace(infix, "")
        if inner in wanted and inner != stored:
            prefix = next(infix for infix in WRAPPERS if infix in stored)
            return stored, prefix, WRAPPERS[prefix]
        if stored.endswith(f".{part}"):
            return stored, stored.removesuffix(part), "unknown"
    return None


def _alike(name: str, part: str) -> bool:
    return name.rsplit(".", 2)[-2:] == part.rsplit(".", 2)[-2:]


def _shown(name: str) -> str:
    return one_line(name, width=120)
