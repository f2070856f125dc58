"""Removes from the names of tensors what training tools put there, where it is certain."""

import re
from collections.abc import Iterable

WRAPPERS = {
    "_fsdp_wrapped_module.": "FullyShardedDataParallel",
    "_checkpoint_wrapped_module.": "activation checkpointing",
    "_orig_mod.": "torch.compile",
    "base_model.model.": "peft",
    "module.": "DataParallel or DistributedDataParallel",
}
"""What puts a prefix or an infix into the names of a model's tensors; longer ones come first."""
ADAPTERS = (".lora_", ".base_layer.", ".modules_to_save.", ".ia3_")
"""Parts of the names of a model with an adapter that is not merged."""
PREFIX = re.compile("|".join(rf"(?:{re.escape(each)})" for each in WRAPPERS))
INFIX = re.compile(r"(?<=\.)(?:_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod)\.")
"""Wrappers of single modules; no module of a Qwen3 has such a name."""


def without_wrappers(names: Iterable[str]) -> dict[str, str]:
    """The stored name of each tensor, by its name without what wrappers added.

    All names stay as they are where only some have a prefix, where two names would become one, and
    where there are tensors of an adapter.
    """
    stored = list(names)
    as_they_are = {name: name for name in stored}
    if any(part in name for name in stored for part in ADAPTERS):
        return as_they_are
    split = {name: _split(name) for name in stored}
    if len({prefix for prefix, _ in split.values()}) > 1:
        return as_they_are
    found = {INFIX.sub("", rest): name for name, (_, rest) in split.items()}
    return found if len(found) == len(stored) else as_they_are


def _split(name: str) -> tuple[str, str]:
    """The wrappers' prefix of a name, and what follows it."""
    start = 0
    while match := PREFIX.match(name, start):
        start = match.end()
    return name[:start], name[start:]
