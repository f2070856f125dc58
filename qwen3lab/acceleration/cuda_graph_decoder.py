"""Decoding steps as CUDA graphs: captured once, then replayed with a single launch per step.

A decoding step is about a thousand small kernels, and Python takes longer to launch them than the
GPU takes to run them. A CUDA graph launches all of them at once.
"""

import warnings
import weakref
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.acceleration.step_capture import CapturedStep, CudaGraphs, GraphCapture
from qwen3lab.errors import CaptureError
from qwen3lab.hooks.points import PATTERN_HOOKS
from qwen3lab.hooks.taps import NO_TAP, Tap, collected_names
from qwen3lab.model.experts import has_fixed_steps
from qwen3lab.model.kv_cache import CacheWindow, KVCache
from qwen3lab.model.positions import inverse_wavelengths
from qwen3lab.model.transformer import Qwen3
from qwen3lab.quantisation.kept_model import Kept

STEPS_BEFORE_CAPTURE = 16
"""Decoding steps that run uncaptured on new cache memory: about the time that a capture takes."""

MAX_CAPTURED_STEPS = 16
"""Captured steps that are kept, one for each window size and set of recorded hooks."""

MIN_WINDOW = 256
"""Positions in the smallest window; larger windows have 512, 1024, 2048 ... positions."""

MAX_KEPT_CACHE_BYTES = 2**30
"""Size of a KV cache up to which its memory is kept for the next reply, in bytes."""


def decoder_for(model: Qwen3) -> "Qwen3 | CudaGraphDecoder":
    """A decoder that captures steps if the model is on a GPU, else the model.

    Streamed weights, and packed ones whose decoding checks values on the host, cannot be captured.
    """
    waits = model.blocks.is_streamed or any(isinstance(each, Kept) for each in model.modules())
    return CudaGraphDecoder(model) if model.device.type == "cuda" and not waits else model


class CudaGraphDecoder:
    """A model whose decoding steps (one new token per row) are captured once, then replayed.

    Call it like the model. Prefill, passes with edits, and passes that record attention patterns
    run uncaptured. In a replay, the graph itself writes the recorded activations to a buffer, which
    is delivered to the recorder every few steps. They differ from those of an uncaptured step by
    rounding.

    Args:
        model: the model; its weights are shared, not copied. Move all weights together or none,
            because a move is detected by the embedding's address.
        capture: captures a function and returns its replay; CUDA graphs if None.
    """

    def __init__(self, model: Qwen3, *, capture: GraphCapture | None = None) -> None:
        self.model, self._capture = model, capture or CudaGraphs(model.device)
        self._inverse = inverse_wavelengths(model.config.rope, model.config.d_head)
        self._inverse = self._inverse.to(model.device)
        self._enabled = True
        self._last_step: CapturedStep | None = None
        self._reset(None)

    def _reset(self, cache: KVCache | None) -> None:
        """Drop all captured steps, as they hold addresses of the old memory; use this cache's."""
        if self._last_step is not None:
            self._last_step.deliver()
        self._last_step = None
        self._steps: dict[tuple[int, tuple[str, ...]], CapturedStep] = {}
        self._has_fixed_steps: dict[int, bool] = {}
        # This reference keeps the memory allocated, so that no other tensor gets its address.
        self._embedding = self.model.embed.weight.detach()
        self._memory = None if cache is None else cache.alias()
        self._cache_in_use = None if cache is None else self._weak_reference(cache)
        self._n_steps, self._capture_failed = 0, False

    def _weak_reference(self, cache: KVCache) -> weakref.ref[KVCache]:
        """A reference that frees the memory of a large cache when the cache is deleted."""
        weak_self = weakref.ref(self)

        def on_deletion(deleted: weakref.ref[KVCache]) -> None:
            decoder = weak_self()
            if decoder is None or decoder._cache_in_use is not deleted:
                return
            if decoder._memory_is_large:
                decoder._reset(None)

        return weakref.ref(cache, on_deletion)

    @property
    def _memory_is_large(self) -> bool:
        return self._memory is not None and self._memory.nbytes > MAX_KEPT_CACHE_BYTES

    @property
    def device(self) -> torch.device:
        """The device on which the model runs."""
        return self.model.device

    def new_cache(self, *, batch: int = 1, capacity: int = 256) -> KVCache:
        """An empty KV cache; reuses the memory of the last cache once that has been deleted.

        Steps captured on that memory are then replayed for the new cache, too.
        """
        size = window_size(capacity)
        in_use = self._cache_in_use is not None and self._cache_in_use() is not None
        if self._memory is not None and not in_use:
            if self._memory.fits(batch, size, self.model.device, self.model.dtype):
                cache = self._memory.alias()
                self._cache_in_use = self._weak_reference(cache)
                cache.clear()
                return cache
            # Free the old memory before the new cache is allocated.
            self._reset(None)
        return self.model.new_cache(batch=batch, capacity=size)

    def __call__(
        self,
        token_ids: Int[Tensor, "batch pos"],
        *,
        mask: Bool[Tensor, "batch pos"] | None = None,
        cache: KVCache | None = None,
        tap: Tap = NO_TAP,
        last_only: bool = False,
    ) -> Float[Tensor, "batch out vocab"]:
        """Logits of the next token; arguments as in `Qwen3.forward`.

        The next call may overwrite the returned tensor, as replays write to the same memory.
        """
        step = None
        batch, n_new = token_ids.shape
        if cache is not None and n_new == 1 and self._is_capturable(batch, tap):
            step = self._step_for(cache, tap)
        if self._last_step is not None and step is not self._last_step:
            self._last_step.deliver()
        self._last_step = step
        if cache is not None and step is not None:
            try:
                return step.run(cache, token_ids, mask, tap)
            except CaptureError as error:
                self._disable_capture(error)
        return self.model(token_ids, mask=mask, cache=cache, tap=tap, last_only=last_only)

    def _disable_capture(self, error: CaptureError) -> None:
        """Stop capturing: on this cache memory after an out-of-memory error, else on any memory."""
        self._enabled = isinstance(error.__cause__, torch.OutOfMemoryError)
        self._last_step, self._steps, self._capture_failed = None, {}, True
        warnings.warn(f"decoding steps run without capture, more slowly: {error}", stacklevel=3)

    def _is_capturable(self, batch: int, tap: Tap) -> bool:
        """Whether a pass runs the same kernels whatever its tokens and their positions are."""
        if not self._enabled or torch.is_grad_enabled() or torch.is_inference_mode_enabled():
            return False
        names = collected_names(tap)
        if names is None or any(name.endswith(PATTERN_HOOKS) for name in names):
            return False
        if self.model.device != self._inverse.device:
            return False
        if batch not in self._has_fixed_steps:
            mlps: list[Any] = [
                self.model.blocks[layer].mlp for layer in self.model.config.moe_layers
            ]
            self._has_fixed_steps[batch] = all(
                has_fixed_steps(mlp, batch * mlp.k, mlp.router.weight) for mlp in mlps
            )
        return self._has_fixed_steps[batch]

    def _step_for(self, cache: KVCache, tap: Tap) -> "CapturedStep | None":
        """The captured step for the cache's length and the tap's hooks; None to run uncaptured."""
        cache.reserve(1)
        embedding = self.model.embed.weight.detach()
        same_memory = self._memory is not None and cache.shares_memory(self._memory)
        if not same_memory or embedding.data_ptr() != self._embedding.data_ptr():
            self._reset(cache)
        self._n_steps += 1
        if self._capture_failed or self._n_steps <= STEPS_BEFORE_CAPTURE:
            return None
        names = collected_names(tap) or ()
        size = min(window_size(cache.length + 1), cache.capacity)
        if (size, names) not in self._steps:
            if len(self._steps) == MAX_CAPTURED_STEPS:
                del self._steps[next(iter(self._steps))]
            window = CacheWindow(cache, size, self._inverse)
            self._steps[size, names] = CapturedStep(
                self.model, window, cache.batch, names, self._capture
            )
        return self._steps[size, names]


def window_size(n_positions: int) -> int:
    """Size of the smallest window that holds `n_positions`: a power of 2, at least `MIN_WINDOW`."""
    return max(MIN_WINDOW, 1 << (n_positions - 1).bit_length())
