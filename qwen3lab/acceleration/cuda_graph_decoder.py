"""The steps of writing as CUDA graphs: captured once, and then run with a single call each.

A pass over one new token is a thousand small kernels, and Python takes longer to ask for them than
a GPU takes to run them. A graph asks for all of them at once.
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

PLAIN_STEPS = 16
"""Steps over a cache's memory that run as ever: about as many as a capture takes the time of."""

MOST = 16
"""Captured steps that are held, of several sizes of window and choices of what is recorded."""

LEAST = 256
"""Positions in the smallest window; each larger one is twice as large."""

KEPT = 2**30
"""Bytes of a cache's memory, at most, that are kept for the next reply."""


def decoder_for(model: Qwen3) -> "Qwen3 | CudaGraphDecoder":
    """What runs a model's decoding steps: captured ones on a GPU, unless weights are streamed."""
    streamed = model.blocks.is_streamed
    return CudaGraphDecoder(model) if model.device.type == "cuda" and not streamed else model


class CudaGraphDecoder:
    """A model whose passes over a single new token are captured, and replayed from then on.

    It is called as the model is. Prompts, passes that an edit changes, and passes that record
    attention patterns run as ever. What is recorded of the others is written by the graph itself,
    and handed on some steps at a time. It differs from the plain pass's by rounding.

    Args:
        model: whose weights it shares; they may be moved all together, but not one by one.
        capture: makes of a function a call that does the same again; a CUDA graph if None.
    """

    def __init__(self, model: Qwen3, *, capture: GraphCapture | None = None) -> None:
        self.model, self._capture = model, capture or CudaGraphs(model.device)
        self._inverse = inverse_wavelengths(model.config.rope, model.config.d_head)
        self._inverse = self._inverse.to(model.device)
        self._works = True
        self._step: CapturedStep | None = None
        self._begin(None)

    def _begin(self, cache: KVCache | None) -> None:
        """Forget what was captured: graphs know addresses, and those are others from now on."""
        if self._step is not None:
            self._step.hand_on()
        self._step = None
        self._steps: dict[tuple[int, tuple[str, ...]], CapturedStep] = {}
        self._fixed: dict[int, bool] = {}
        # Held, so that nothing else can come to lie where it was.
        self._embedding = self.model.embed.weight.detach()
        self._memory = None if cache is None else cache.alias()
        self._user = None if cache is None else self._watched(cache)
        self._n_seen, self._refused = 0, False

    def _watched(self, cache: KVCache) -> weakref.ref[KVCache]:
        """A reference to a cache; when that goes, so does its memory if it is much."""
        me = weakref.ref(self)

        def let_go(user: weakref.ref[KVCache]) -> None:
            owner = me()
            if owner is not None and owner._user is user and owner._keeps_much:
                owner._begin(None)

        return weakref.ref(cache, let_go)

    @property
    def _keeps_much(self) -> bool:
        return self._memory is not None and self._memory.nbytes > KEPT

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.model.device

    def new_cache(self, *, batch: int = 1, capacity: int = 256) -> KVCache:
        """An empty key/value cache, in the memory of the last one if nobody has that any more.

        (What was captured over that memory then serves again.)
        """
        size = window_size(capacity)
        if self._memory is not None and (self._user is None or self._user() is None):
            if self._memory.fits(batch, size, self.model.device, self.model.dtype):
                cache = self._memory.alias()
                self._user = self._watched(cache)
                cache.clear()
                return cache
            # First, so that there are never two.
            self._begin(None)
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
        """Logits of the next token, as `Qwen3.forward` gives them; good until the next call."""
        step = None
        if cache is not None and token_ids.shape[1] == 1 and self._is_fixed(len(token_ids), tap):
            step = self._step_for(cache, tap)
        if self._step is not None and step is not self._step:
            self._step.hand_on()
        self._step = step
        if cache is not None and step is not None:
            try:
                return step.run(cache, token_ids, mask, tap)
            except CaptureError as error:
                self._refuse(error)
        return self.model(token_ids, mask=mask, cache=cache, tap=tap, last_only=last_only)

    def _refuse(self, error: CaptureError) -> None:
        """Let steps run as ever: while this memory is in use, or for good if it is not for room."""
        self._works = isinstance(error.__cause__, torch.OutOfMemoryError)
        self._step, self._steps, self._refused = None, {}, True
        warnings.warn(f"steps of writing are not captured, but run: {error}", stacklevel=3)

    def _is_fixed(self, batch: int, tap: Tap) -> bool:
        """Whether a pass does the same whatever its tokens are, and wherever they stand."""
        if not self._works or torch.is_grad_enabled() or torch.is_inference_mode_enabled():
            return False
        names = collected_names(tap)
        if names is None or any(name.endswith(PATTERN_HOOKS) for name in names):
            return False
        if self.model.device != self._inverse.device:
            return False
        if batch not in self._fixed:
            mlps: list[Any] = [
                self.model.blocks[layer].mlp for layer in self.model.config.moe_layers
            ]
            self._fixed[batch] = all(
                has_fixed_steps(mlp, batch * mlp.k, mlp.router.weight) for mlp in mlps
            )
        return self._fixed[batch]

    def _step_for(self, cache: KVCache, tap: Tap) -> "CapturedStep | None":
        """The captured step for as many positions, or None if it is too early for one."""
        cache.reserve(1)
        embedding = self.model.embed.weight.detach()
        known = self._memory is not None and cache.shares_memory(self._memory)
        if not known or embedding.data_ptr() != self._embedding.data_ptr():
            self._begin(cache)
        self._n_seen += 1
        if self._refused or self._n_seen <= PLAIN_STEPS:
            return None
        names = collected_names(tap) or ()
        size = min(window_size(cache.length + 1), cache.capacity)
        if (size, names) not in self._steps:
            if len(self._steps) == MOST:
                del self._steps[next(iter(self._steps))]
            window = CacheWindow(cache, size, self._inverse)
            self._steps[size, names] = CapturedStep(
                self.model, window, cache.batch, names, self._capture
            )
        return self._steps[size, names]


def window_size(n_positions: int) -> int:
    """Positions in the smallest window that has so many."""
    return max(LEAST, 1 << (n_positions - 1).bit_length())
