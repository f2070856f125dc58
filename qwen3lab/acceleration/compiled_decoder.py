"""The steps of writing as compiled code: slow to begin with, for many or long replies.

On a CPU; what a GPU gains by is to have them captured (`qwen3lab.acceleration.cuda_graph_decoder`).
"""

import shutil

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.errors import CompileError
from qwen3lab.hooks.taps import NO_TAP, Keep, Tap, collected_names
from qwen3lab.model.kv_cache import KVCache
from qwen3lab.model.transformer import Qwen3

COMPILERS = ("c++", "g++", "clang++", "cl")


class CompiledDecoder:
    """A model whose passes over a single new token are compiled when they first run.

    It is called as the model is. Prompts, and passes that an edit changes, run as ever: an edit
    is Python that would have to be compiled anew. What is recorded comes out of the compiled
    pass; it differs from the plain one's by rounding.

    Args:
        model: whose weights it shares.

    Raises:
        CompileError: the compiler is missing that torch needs on the model's device.
    """

    def __init__(self, model: Qwen3) -> None:
        _check(model.device)
        self.model = model
        self._step = torch.compile(_step, dynamic=True)

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.model.device

    def new_cache(self, *, batch: int = 1, capacity: int = 256) -> KVCache:
        """An empty key/value cache, as the model makes it."""
        return self.model.new_cache(batch=batch, capacity=capacity)

    def __call__(
        self,
        token_ids: Int[Tensor, "batch pos"],
        *,
        mask: Bool[Tensor, "batch pos"] | None = None,
        cache: KVCache | None = None,
        tap: Tap = NO_TAP,
        last_only: bool = False,
    ) -> Float[Tensor, "batch out vocab"]:
        """Logits of the next token, as `Qwen3.forward` gives them."""
        names = collected_names(tap)
        if cache is None or token_ids.shape[1] != 1 or names is None:
            return self.model(token_ids, mask=mask, cache=cache, tap=tap, last_only=last_only)
        # Outside, so that the compiled pass finds the cache as large as it needs.
        cache.reserve(1)
        logits, kept = self._step(self.model, token_ids, mask, cache, frozenset(names))
        for name, value in kept.items():
            tap(name, value)
        return logits


def _step(
    model: Qwen3,
    token_ids: Int[Tensor, "batch 1"],
    mask: Bool[Tensor, "batch 1"] | None,
    cache: KVCache,
    names: frozenset[str],
) -> tuple[Float[Tensor, "batch 1 vocab"], dict[str, Tensor]]:
    """One pass, and what was asked for of it: a result, which a compiler knows how to give."""
    keep = Keep(names)
    return model(token_ids, mask=mask, cache=cache, tap=keep, last_only=True), keep.kept


def _check(device: torch.device) -> None:
    if device.type == "cpu" and not any(map(shutil.which, COMPILERS)):
        raise CompileError(
            "compiling for the CPU needs a C++ compiler, and there is none: install one, such as "
            "g++, or go on without compiling"
        )
