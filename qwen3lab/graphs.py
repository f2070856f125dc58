"""The steps of writing as CUDA graphs: captured once, and then run with a single call each.

A pass over one new token is a thousand small kernels, and Python takes longer to ask for them than
a GPU takes to run them. A graph asks for all of them at once.
"""

import warnings
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.cache import KVCache, Window
from qwen3lab.hooks import NOTHING, Keep, NoTap, Tap
from qwen3lab.model import Experts, Qwen3
from qwen3lab.positions import inverse_wavelengths
from qwen3lab.recording import Recorder
from qwen3lab.streaming import StreamedBlocks

PLAIN_STEPS = 16
"""Steps over a cache's memory that run as ever: about as many as a capture takes the time of."""

MOST = 16
"""Captured steps that are held, of several sizes of window and choices of what is recorded."""

LEAST = 256
"""Positions in the smallest window; each larger one is twice as large."""

ROOM = 64
"""Steps whose activations are gathered on the device before they are handed on together."""

ROUNDING = 2e-2
"""By how much of its size a replay may be off from what it was captured of."""

Run = Callable[[], list[Tensor]]
Capture = Callable[[Run, Callable[[], None]], Run]
"""Given what to do, and what puts it back to where it began, makes a call that does it again."""


def writer(model: Qwen3) -> "Qwen3 | GraphedModel":
    """What writes with a model: captured steps on a GPU, unless weights come from the disk."""
    streamed = isinstance(model.blocks, StreamedBlocks)
    return GraphedModel(model) if model.device.type == "cuda" and not streamed else model


class GraphedModel:
    """A model whose passes over a single new token are captured, and replayed from then on.

    It is called as the model is. Prompts, passes that an edit changes, and passes that record
    attention patterns run as ever. What is recorded of the others is written by the graph itself,
    and handed on some steps at a time. It differs from the plain pass's by rounding.

    Args:
        model: whose weights it shares; they may be moved all together, but not one by one.
        capture: makes of a function a call that does the same again; a CUDA graph if None.
    """

    def __init__(self, model: Qwen3, *, capture: Capture | None = None) -> None:
        self.model, self._capture = model, capture or CudaGraphs(model.device)
        self._inverse = inverse_wavelengths(model.config.rope, model.config.d_head)
        self._inverse = self._inverse.to(model.device)
        self._user: weakref.ref[KVCache] | None = None
        self._memory: KVCache | None = None
        self._steps: dict[tuple[int, tuple[str, ...]], _Step] = {}
        self._step: _Step | None = None
        self._n_seen = 0
        # Held, so that nothing else can come to lie where it was.
        self._embedding = model.embed.weight.detach()
        self._fixed: dict[int, bool] = {}

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.model.device

    def new_cache(self, *, batch: int = 1, capacity: int = 256) -> KVCache:
        """An empty key/value cache, in the memory of the last one if nobody has that any more.

        (What was captured over that memory then serves again.)
        """
        size = window_size(capacity)
        unused = self._user is None or self._user() is None
        if self._memory and unused and (self._memory.batch, self._memory.capacity) == (batch, size):
            cache = self._memory.alias()
            cache.clear()
            self._user = weakref.ref(cache)
            return cache
        return self.model.new_cache(batch=batch, capacity=size)

    def __call__(
        self,
        token_ids: Int[Tensor, "batch pos"],
        *,
        mask: Bool[Tensor, "batch pos"] | None = None,
        cache: KVCache | None = None,
        tap: Tap = NOTHING,
        last_only: bool = False,
    ) -> Float[Tensor, "batch out vocab"]:
        """Logits of the next token, as `Qwen3.forward` gives them; good until the next call."""
        step = None
        if cache is not None and token_ids.shape[1] == 1 and self._is_fixed(len(token_ids), tap):
            step = self._step_for(cache, tap)
        if self._step is not None and step is not self._step:
            self._step.hand_on()
        self._step = step
        if cache is None or step is None:
            return self.model(token_ids, mask=mask, cache=cache, tap=tap, last_only=last_only)
        return step.run(cache, token_ids, mask, tap)

    def _is_fixed(self, batch: int, tap: Tap) -> bool:
        """Whether a pass does the same whatever its tokens are, and wherever they stand."""
        if torch.is_grad_enabled() or not isinstance(tap, NoTap | Recorder):
            return False
        if self.model.device != self._inverse.device:
            return False
        if isinstance(tap, Recorder) and tap.has_maps:
            return False
        if batch not in self._fixed:
            mlps = [self.model.blocks[layer].mlp for layer in self.model.config.moe_layers]
            experts = [mlp for mlp in mlps if isinstance(mlp, Experts)]
            self._fixed[batch] = all(mlp.needs_no_load(batch) for mlp in experts)
        return self._fixed[batch]

    def _step_for(self, cache: KVCache, tap: Tap) -> "_Step | None":
        """The captured step for as many positions, or None if it is too early for one."""
        cache.reserve(1)
        embedding = self.model.embed.weight.detach()
        known = self._memory is not None and cache.shares_memory(self._memory)
        if not known or embedding.data_ptr() != self._embedding.data_ptr():
            # Graphs know addresses: a cache elsewhere, or a model that was moved, needs others.
            self._steps.clear()
            self._embedding = embedding
            self._memory, self._user, self._n_seen = cache.alias(), weakref.ref(cache), 0
        self._n_seen += 1
        if self._n_seen <= PLAIN_STEPS:
            return None
        names = tuple(tap.pieces) if isinstance(tap, Recorder) else ()
        size = min(window_size(cache.length + 1), cache.capacity)
        if (size, names) not in self._steps:
            if len(self._steps) == MOST:
                del self._steps[next(iter(self._steps))]
            window = Window(cache, size, self._inverse)
            self._steps[size, names] = _Step(self.model, window, cache.batch, names, self._capture)
        return self._steps[size, names]


def window_size(n_positions: int) -> int:
    """Positions in the smallest window that has so many."""
    return max(LEAST, 1 << (n_positions - 1).bit_length())


class _Step:
    """One captured pass over a window, and the memory that it reads and writes."""

    def __init__(
        self, model: Qwen3, window: Window, batch: int, names: Sequence[str], capture: Capture
    ) -> None:
        self.model, self.window, self.names, self.capture = model, window, names, capture
        self.token_ids = torch.zeros(batch, 1, dtype=torch.long, device=model.device)
        self.real = torch.ones(batch, 1, dtype=torch.bool, device=model.device)
        self.slot = torch.zeros(1, dtype=torch.long, device=model.device)
        self.gathered: list[tuple[list[str], Tensor]] = []
        self.n_gathered = 0
        self.recorder: Recorder | None = None
        self._replay: Run | None = None
        self._stands_at: int | None = None
        self._all_real = True

    def run(
        self,
        cache: KVCache,
        token_ids: Int[Tensor, "batch 1"],
        mask: Bool[Tensor, "batch 1"] | None,
        tap: Tap,
    ) -> Float[Tensor, "batch 1 vocab"]:
        """Put a token into each row, and have the step done."""
        self._gather_for(tap)
        self.token_ids.copy_(token_ids)
        if mask is not None:
            self.real.copy_(mask)
        elif not self._all_real:
            self.real.fill_(True)
        self._all_real = mask is None
        if self._replay is None:
            self._set(cache.length)
            self._replay = self._captured(partial(self._set, cache.length))
            self._stands_at = None  # It has run meanwhile.
        if self._stands_at != cache.length:
            self._set(cache.length)
        self._stands_at = None  # Until it is done: an interrupt may come.
        logits = self._replay()[0]
        cache.advance_seen(padded=cache.padded or mask is not None)
        self._stands_at = cache.length
        self.n_gathered += bool(self.names)
        return logits

    def _captured(self, reset: Callable[[], None]) -> Run:
        """The pass as a capture, or as it is where that fails, as when memory runs out."""
        try:
            return self.capture(self._pass, reset)
        except RuntimeError as error:
            warnings.warn(f"steps of writing are not captured, but run: {error}", stacklevel=2)
            return self._pass

    def hand_on(self) -> None:
        """Give what has been gathered to the recorder that it is for."""
        if self.recorder is not None and self.n_gathered:
            for names, values in self.gathered:
                self.recorder.keep(names, values[:, :, : self.n_gathered].clone())
        self.n_gathered, self.recorder, self._stands_at = 0, None, None

    def _gather_for(self, tap: Tap) -> None:
        recorder = tap if isinstance(tap, Recorder) else None
        if self.recorder is not recorder or self.n_gathered == ROOM:
            self.hand_on()
            self.recorder = recorder
            if recorder is not None:
                recorder.expect(self.hand_on)

    def _set(self, place: int) -> None:
        self.window.at.fill_(place)
        self.slot.fill_(self.n_gathered)

    def _pass(self) -> list[Tensor]:
        """All that is captured: logits, and what is gathered. It moves on by itself."""
        keep = Keep(self.names)
        logits = self.model(
            self.token_ids, mask=self.real, cache=self.window, tap=keep, last_only=True
        )
        if not self.gathered:
            self.gathered = _room_for(keep.kept)
        for names, room in self.gathered:
            values = torch.stack([keep.kept[name] for name in names])
            room.index_copy_(2, self.slot, values)
        self.slot.add_(1)
        self.window.at.add_(1)
        return [logits, *(room for _, room in self.gathered)]


def _room_for(kept: dict[str, Tensor]) -> list[tuple[list[str], Tensor]]:
    """Memory for some steps' activations; those of one shape together, one after another."""

    def kind(name: str) -> str:
        return f"{kept[name].dtype} {tuple(kept[name].shape)}"

    found = []
    for _, alike in groupby(sorted(kept, key=kind), key=kind):
        names = list(alike)
        batch, _, *shape = kept[names[0]].shape
        found.append((names, kept[names[0]].new_zeros(len(names), batch, ROOM, *shape)))
    return found


class CudaGraphs:
    """Captures functions on one device.

    Args:
        device: where they run.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pool: Any = None  # Torch keeps the type of its handles to itself.

    def __call__(self, run: Run, reset: Callable[[], None]) -> Run:
        """A call that does again what the function does now.

        Raises:
            RuntimeError: it cannot be captured, or a replay gives other numbers than the run did.
        """
        with torch.cuda.device(self.device):
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                expected = [out.clone() for out in run()]
                reset()
            torch.cuda.current_stream().wait_stream(beside)
            graph = torch.cuda.CUDAGraph()
            # Other threads, of widgets for one, may go on using the device.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                outs = run()
            # All graphs share their memory: none needs another's results.
            self._pool = graph.pool()
            graph.replay()
            if not agree(outs, expected):
                raise RuntimeError("a replay gave other numbers than the run before it")

        def replay() -> list[Tensor]:
            graph.replay()
            return outs

        return replay


def agree(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Whether tensors are the same but for rounding."""
    pairs = [(a.double(), b.double()) for a, b in zip(found, expected, strict=True)]
    return all(float((a - b).norm()) <= ROUNDING * float(b.norm()) for a, b in pairs)
