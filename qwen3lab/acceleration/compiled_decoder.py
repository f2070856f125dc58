"""Decoding steps compiled with torch.compile, for many or long replies on a CPU.

Compiling takes time at the first step. On a GPU, capturing the steps as CUDA graphs is faster (see
`qwen3lab.acceleration.cuda_graph_decoder`).
"""

import shutil

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.errors import CompileError
from qwen3lab.hooks.taps import NO_TAP, Keep, Tap, collected_names
from qwen3lab.model.kv_cache import KVCache
from qwen3lab.model.pass_threads import run_on_paying_threads
from qwen3lab.model.transformer import Qwen3

COMPILERS = ("c++", "g++", "clang++", "cl")
"""Programs of which torch needs one to compile for the CPU."""


class CompiledDecoder:
    """A model whose decoding steps (one new token per row) are compiled when they first run.

    Call it like the model. Prefill and passes with edits run uncompiled, because each edit is
    Python code that would have to be compiled again. Recorded activations are outputs of the
    compiled step; they differ from those of the uncompiled step by rounding.

    Args:
        model: the model; its weights are shared, not copied.

    Raises:
        CompileError: torch needs a compiler for the model's device, and none is installed.
    """

    def __init__(self, model: Qwen3) -> None:
        _check(model.device)
        self.model = model
        self._step = torch.compile(_step, dynamic=True)

    @property
    def device(self) -> torch.device:
        """The device on which the model runs."""
        return self.model.device

    def new_cache(self, *, batch: int = 1, capacity: int = 256) -> KVCache:
        """An empty KV cache for this model."""
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
        """Logits of the next token; arguments and result as in `Qwen3.forward`."""
        names = collected_names(tap)
        if cache is None or token_ids.shape[1] != 1 or names is None:
            return self.model(token_ids, mask=mask, cache=cache, tap=tap, last_only=last_only)
        # Before the compiled step, so that the cache does not grow inside of it.
        cache.reserve(1)
        logits, kept = run_on_paying_threads(
            self.model.config,
            self.device,
            token_ids.numel(),
            lambda: self._step(self.model, token_ids, mask, cache, frozenset(names)),
        )
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
    """One decoding step; returns the logits and the requested activations, without side effects."""
    keep = Keep(names)
    return model(token_ids, mask=mask, cache=cache, tap=keep, last_only=True), keep.kept


def _check(device: torch.device) -> None:
    if device.type == "cpu" and not any(map(shutil.which, COMPILERS)):
        raise CompileError(
            "compiling for the CPU needs a C++ compiler, and none was found: install one, such as "
            "g++, or continue without compiling"
        )
