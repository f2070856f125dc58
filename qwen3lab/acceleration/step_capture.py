"""One step of writing, captured: what it reads and writes, and how it is done again."""

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

ROOM = 64
"""Steps whose activations are gathered on the device before they are handed on together."""

ROUNDING = 2e-2
"""By how much of its size a replay may be off from what it was captured of."""

ONE_AT_A_TIME = threading.Lock()
"""Held while something is captured: what another thread begins to capture would go wrong."""

Run = Callable[[], list[Tensor]]
GraphCapture = Callable[[Run, Callable[[], None]], Run]
"""Given what to do, and what puts it back to where it began, makes a call that does it again."""


class CapturedStep:
    """One captured pass over a window, and the memory that it reads and writes."""

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
        self._stands_at: int | None = None
        self._all_real = True

    def run(
        self,
        cache: KVCache,
        token_ids: Int[Tensor, "batch 1"],
        mask: Bool[Tensor, "batch 1"] | None,
        tap: Tap,
    ) -> Float[Tensor, "batch 1 vocab"]:
        """Put a token into each row, and have the step done.

        Raises:
            CaptureError: it cannot be captured. The cache is as it was.
        """
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
        try:
            return self.capture(self._pass, reset)
        except RuntimeError as error:
            raise CaptureError(str(error)) from error

    def hand_on(self) -> None:
        """Give what has been gathered to the recorder that it is for."""
        if self.recorder is not None and self.n_gathered:
            for names, values in self.gathered:
                self.recorder.keep(names, values[:, :, : self.n_gathered].clone())
        self.n_gathered, self.recorder, self._stands_at = 0, None, None

    def _gather_for(self, tap: Tap) -> None:
        recorder = tap if isinstance(tap, Collector) else None
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
        # Of what is gathered, the step that is compared when it is captured.
        return [logits, *(room[:, :, :1] for _, room in self.gathered)]


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
        self._graphs: WeakSet[torch.cuda.CUDAGraph] = WeakSet()
        self._streams: list[torch.cuda.Stream] = []

    def __call__(self, run: Run, reset: Callable[[], None]) -> Run:
        """A call that does again what the function does now.

        Raises:
            RuntimeError: it cannot be captured, or a replay gives other numbers than the run did.
        """
        with (
            ONE_AT_A_TIME,
            torch.cuda.device(self.device),
            # A capture that fails would leave its own stream as the current one.
            torch.cuda.stream(torch.cuda.current_stream()),
        ):
            return self._captured(run, reset)

    def _captured(self, run: Run, reset: Callable[[], None]) -> Run:
        if not self._streams:
            # Of its own: torch's for captures belongs to the device that was first to capture.
            self._streams = [torch.cuda.Stream(), torch.cuda.Stream()]
        expected = self._run_aside(run, reset)
        graph = torch.cuda.CUDAGraph()
        # All graphs share their memory, for none needs another's results. It goes with the last.
        other = next(iter(self._graphs), None)
        shared = {"pool": other.pool()} if other is not None else {}
        # Other threads, of widgets for one, may go on using the device.
        quiet = {"stream": self._streams[1], "capture_error_mode": "thread_local"}
        with torch.cuda.graph(graph, **shared, **quiet):
            outs = run()
        graph.replay()
        if not agree(outs, expected):
            raise RuntimeError("a replay gave other numbers than the run before it")
        self._graphs.add(graph)

        def replay() -> list[Tensor]:
            graph.replay()
            return outs

        return replay

    def _run_aside(self, run: Run, reset: Callable[[], None]) -> list[Tensor]:
        """What a function gives, run where nothing is captured: torch asks for that."""
        here, aside = torch.cuda.current_stream(), self._streams[0]
        aside.wait_stream(here)
        try:
            with torch.cuda.stream(aside):
                expected = [out.clone() for out in run()]
                reset()
        finally:
            here.wait_stream(aside)
        return expected


def agree(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Whether tensors are the same but for rounding."""
    for a, b in zip(found, expected, strict=True):
        a, b = (torch.nan_to_num(each.double(), 0.0, 0.0, 0.0) for each in (a, b))
        if not float((a - b).norm()) <= ROUNDING * float(b.norm()):
            return False
    return True
