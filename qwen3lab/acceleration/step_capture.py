"""Capture and replay of one decoding step as a CUDA graph, with the buffers it reads and writes."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from weakref import WeakSet

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.errors import CaptureError
from qwen3lab.hooks.taps import Collector, Keep, Tap
from qwen3lab.model.kv_cache import CacheWindow, KVCache
from qwen3lab.model.transformer import Qwen3

MAX_BUFFERED_STEPS = 64
"""Steps whose activations are buffered on the device before they are delivered together."""

MAX_RELATIVE_ERROR = 2e-2
"""Largest accepted error of a replay: norm of the difference, relative to the captured run's."""

CAPTURE_LOCK = threading.Lock()
"""Held during a capture: captures in two threads at once would fail."""

Run = Callable[[], list[Tensor]]
GraphCapture = Callable[[Run, Callable[[], None]], Run]
"""Captures a function and returns its replay; the second argument resets the function's inputs."""


class CapturedStep:
    """One captured decoding step over a window of the KV cache, with its input and output buffers.

    Args:
        model: the model to run.
        window: the positions of the KV cache that the step reads and writes.
        batch: rows.
        names: hooks whose activations are recorded.
        capture: captures a function and returns its replay.
    """

    def __init__(
        self,
        model: Qwen3,
        window: CacheWindow,
        batch: int,
        names: Sequence[str],
        capture: GraphCapture,
    ) -> None:
        self.model, self.window, self.names, self.capture = model, window, names, capture
        self.token_ids = torch.zeros(batch, 1, dtype=torch.long, device=model.device)
        self.real = torch.ones(batch, 1, dtype=torch.bool, device=model.device)
        self.slot = torch.zeros(1, dtype=torch.long, device=model.device)
        self.gathered: list[tuple[list[str], Tensor]] = []
        self.n_gathered = 0
        self.recorder: Collector | None = None
        self._replay: Run | None = None
        # The position stored in `window.at` on the device; None if unknown.
        self._device_position: int | None = None
        self._all_real = True

    def run(
        self,
        cache: KVCache,
        token_ids: Int[Tensor, "batch 1"],
        mask: Bool[Tensor, "batch 1"] | None,
        tap: Tap,
    ) -> Float[Tensor, "batch 1 vocab"]:
        """Run the step with one new token per row; the first call captures it.

        Args:
            cache: the cache whose window this is; it advances by one position.
            token_ids: the new tokens.
            mask: True where the new token is real; all are if None.
            tap: `NO_TAP`, or a collector of `names`.

        Returns:
            Logits of the next token, in memory that the next call overwrites.

        Raises:
            CaptureError: the step cannot be captured. The cache is unchanged.
        """
        self._set_recorder(tap)
        self.token_ids.copy_(token_ids)
        if mask is not None:
            self.real.copy_(mask)
        elif not self._all_real:
            self.real.fill_(True)
        self._all_real = mask is None
        if self._replay is None:
            self._write_indices(cache.length)
            self._replay = self._capture_pass(partial(self._write_indices, cache.length))
            self._device_position = None  # The capture has run the step, which advanced it.
        if self._device_position != cache.length:
            self._write_indices(cache.length)
        self._device_position = None  # Unknown if an interrupt comes before the replay ends.
        logits = self._replay()[0]
        cache.advance_seen(padded=cache.padded or mask is not None)
        self._device_position = cache.length
        self.n_gathered += bool(self.names)
        return logits

    def _capture_pass(self, reset: Callable[[], None]) -> Run:
        try:
            return self.capture(self._run_pass, reset)
        except RuntimeError as error:
            raise CaptureError(str(error)) from error

    def deliver(self) -> None:
        """Copy the buffered activations to the recorder, and empty the buffers."""
        if self.recorder is not None and self.n_gathered:
            for names, values in self.gathered:
                self.recorder.keep(names, values[:, :, : self.n_gathered].clone())
        self.n_gathered, self.recorder, self._device_position = 0, None, None

    def _set_recorder(self, tap: Tap) -> None:
        """Buffer for this tap; deliver first if it is another one, or if the buffers are full."""
        recorder = tap if isinstance(tap, Collector) else None
        if self.recorder is not recorder or self.n_gathered == MAX_BUFFERED_STEPS:
            self.deliver()
            self.recorder = recorder
            if recorder is not None:
                recorder.expect(self.deliver)

    def _write_indices(self, position: int) -> None:
        """Copy the new token's position and the next free buffer slot to the device."""
        self.window.at.fill_(position)
        self.slot.fill_(self.n_gathered)

    def _run_pass(self) -> list[Tensor]:
        """The captured function: runs the model, fills the buffers, advances both indices."""
        keep = Keep(self.names)
        logits = self.model(
            self.token_ids, mask=self.real, cache=self.window, tap=keep, last_only=True
        )
        if not self.gathered:
            self.gathered = _buffers_for(keep.kept)
        for names, buffer in self.gathered:
            values = torch.stack([keep.kept[name] for name in names])
            buffer.index_copy_(2, self.slot, values)
        self.slot.add_(1)
        self.window.at.add_(1)
        # A new capture compares its first step with the replay, so the first slot is enough.
        return [logits, *(buffer[:, :, :1] for _, buffer in self.gathered)]


def _buffers_for(kept: dict[str, Tensor]) -> list[tuple[list[str], Tensor]]:
    """Empty buffers, one for all hooks of the same dtype and shape, with the hooks' names."""

    def dtype_and_shape(name: str) -> str:
        return f"{kept[name].dtype} {tuple(kept[name].shape)}"

    buffers = []
    for _, group in groupby(sorted(kept, key=dtype_and_shape), key=dtype_and_shape):
        names = list(group)
        batch, _, *shape = kept[names[0]].shape
        size = (len(names), batch, MAX_BUFFERED_STEPS, *shape)
        buffers.append((names, kept[names[0]].new_zeros(size)))
    return buffers


class CudaGraphs:
    """Captures functions on one device as CUDA graphs.

    Args:
        device: the CUDA device on which they run.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._graphs: WeakSet[torch.cuda.CUDAGraph] = WeakSet()
        self._streams: list[torch.cuda.Stream] = []

    def __call__(self, run: Run, reset: Callable[[], None]) -> Run:
        """Capture a function as a CUDA graph; returns a function that replays it.

        Args:
            run: the function; it returns tensors.
            reset: restores the inputs that `run` changes, before it runs again.

        Raises:
            RuntimeError: the function cannot be captured, or its replay gave other values.
        """
        with (
            CAPTURE_LOCK,
            torch.cuda.device(self.device),
            # Restores the current stream: a failed capture leaves its own stream current.
            torch.cuda.stream(torch.cuda.current_stream()),
        ):
            return self._capture(run, reset)

    def _capture(self, run: Run, reset: Callable[[], None]) -> Run:
        if not self._streams:
            # torch's own capture stream belongs to the first device that captured, maybe another.
            self._streams = [torch.cuda.Stream(), torch.cuda.Stream()]
        expected = self._run_on_side_stream(run, reset)
        graph = torch.cuda.CUDAGraph()
        # Graphs share one memory pool, as none reads another's results. The last one frees it.
        other = next(iter(self._graphs), None)
        pool = {"pool": other.pool()} if other is not None else {}
        # Other threads, such as a widget's, may use the device during the capture.
        options = {"stream": self._streams[1], "capture_error_mode": "thread_local"}
        with torch.cuda.graph(graph, **pool, **options):
            outs = run()
        graph.replay()
        if not agree(outs, expected):
            raise RuntimeError("the replay of a CUDA graph gave other values than the model")
        self._graphs.add(graph)

        def replay() -> list[Tensor]:
            graph.replay()
            return outs

        return replay

    def _run_on_side_stream(self, run: Run, reset: Callable[[], None]) -> list[Tensor]:
        """Copies of the results of a warm-up run on a side stream, which a capture requires."""
        current, side = torch.cuda.current_stream(), self._streams[0]
        side.wait_stream(current)
        try:
            with torch.cuda.stream(side):
                expected = [out.clone() for out in run()]
                reset()
        finally:
            current.wait_stream(side)
        return expected


def agree(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Whether tensors are equal up to rounding; NaN and infinity count as 0."""
    for a, b in zip(found, expected, strict=True):
        a, b = (torch.nan_to_num(each.double(), 0.0, 0.0, 0.0) for each in (a, b))
        if not float((a - b).norm()) <= MAX_RELATIVE_ERROR * float(b.norm()):
            return False
    return True
