"""A cache of weights that are read from disk: keeps the units that are requested most.

While one unit is in use, a background thread reads the next into a reused buffer.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError as NotDone
from dataclasses import dataclass

import torch
from torch import Tensor

from qwen3lab.checkpoints.safetensors_reader import StoredTensors
from qwen3lab.checkpoints.tensor_names import StoredPart
from qwen3lab.config.placement import UNITS_IN_MEMORY
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.device.host_transfer import current_stream
from qwen3lab.interrupts import HeldInterrupts
from qwen3lab.streaming.eviction import UnitKey, UsageCounts

SECONDS_HELD = 0.2
"""Time for which an interrupt waits for a read."""

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class WeightUnit:
    """Weights that are read together: a layer without its experts, or one expert.

    Attributes:
        key: layer and expert; unique.
        shapes: of its tensors, by name.
        parts: the stored parts of each tensor; each fills an equal share of its rows.
    """

    key: UnitKey
    shapes: Mapping[str, tuple[int, ...]]
    parts: Mapping[str, Sequence[StoredPart]]

    @property
    def n_values(self) -> int:
        """Number of weights in all of its tensors."""
        return sum(torch.Size(shape).numel() for shape in self.shapes.values())

    @property
    def kind(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Names and shapes; units of one kind can share buffers."""
        return tuple(self.shapes.items())


@dataclass(frozen=True)
class Request:
    """A requested unit.

    Attributes:
        unit: the unit.
        future: its tensors, available once they are read.
        score: its usage score before this request.
    """

    unit: WeightUnit
    future: Future[Tensors]
    score: float


class WeightCache:
    """Reads weight units from a checkpoint and keeps the most requested ones in memory.

    Until the capacity is used up, every unit that is read is kept. After that, a unit replaces a
    kept one only if it had a higher usage score before its request. If every forward pass
    requests all units, nothing is replaced.

    Args:
        weights: the checkpoint.
        capacity: bytes for kept units.
        device: of the tensors.
        dtype: of the tensors; stored values are converted.

    Attributes:
        free_bytes: capacity that is still free.
        bytes_read: total bytes of the units read so far, in `dtype`.
        bytes_used: total bytes of the units requested so far, read or kept, in `dtype`.
    """

    def __init__(
        self,
        weights: StoredTensors,
        *,
        capacity: int,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> None:
        self.weights, self.device, self.dtype = weights, device, dtype
        self._capacity = self.free_bytes = capacity
        self.bytes_read = self.bytes_used = 0
        self._reserved: dict[UnitKey, int] = {}
        self._kept: dict[UnitKey, Future[Tensors]] = {}
        self._in_use: Counter[UnitKey] = Counter()
        self._usage: defaultdict[object, UsageCounts] = defaultdict(UsageCounts)
        self._free_buffers: defaultdict[object, list[Tensors]] = defaultdict(list)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="qwen3lab-weights")

    def reserve(self, units: Iterable[WeightUnit]) -> None:
        """Reserve capacity for units that every forward pass needs."""
        self._reserved |= {unit.key: self._bytes(unit) for unit in units}

    @property
    def kept_bytes(self) -> int:
        """Bytes of the kept units."""
        return self._capacity - self.free_bytes

    def stream(self, units: Iterable[WeightUnit]) -> Iterator[Tensors]:
        """The tensors of each unit in turn; they are valid until the next unit is requested.

        Raises:
            CheckpointError: a file can no longer be read.
        """
        remaining = iter(units)
        requests: deque[Request] = deque()

        def request_next() -> None:
            with HeldInterrupts():
                unit = next(remaining, None)
                if unit is not None:
                    requests.append(self._request(unit))

        def release_first() -> None:
            with HeldInterrupts():
                self._release(requests.popleft())

        try:
            for _ in range(UNITS_IN_MEMORY):
                request_next()
            while requests:
                yield _read_result(requests[0].future)
                release_first()
                request_next()
        finally:
            with HeldInterrupts():
                while requests:
                    self._release(requests.popleft())

    def read(self, unit: WeightUnit) -> Tensors:
        """A unit's tensors in newly allocated memory, which the cache never reuses."""
        return self._read(unit, self._allocate(unit), None)

    def _request(self, unit: WeightUnit) -> Request:
        """Start to read a unit unless it is kept; keep it if it fits."""
        self.bytes_used += self._bytes(unit)
        self._in_use[unit.key] += 1
        score = self._usage[unit.kind].count_request(unit.key)
        if unit.key in self._kept:
            return Request(unit, self._kept[unit.key], score)
        keep = self._fits(unit)
        buffers = [] if keep else self._free_buffers[unit.kind]
        buffer = buffers.pop() if buffers else self._allocate(unit)
        future = self._reader.submit(self._read, unit, buffer, current_stream(self.device))
        if keep:
            self.free_bytes -= self._bytes(unit)
            self._reserved.pop(unit.key, None)
            self._keep(unit, future)
        return Request(unit, future, score)

    def _release(self, request: Request) -> None:
        """End the use of a unit; frees a buffer if it is not kept, drops it if reading failed."""
        unit, error = request.unit, request.future.exception()
        self._in_use[unit.key] -= 1
        if error is not None:
            self._drop(unit)
        elif unit.key not in self._kept:
            self._free_buffers[unit.kind].append(self._evict_for(request).result())

    def _evict_for(self, request: Request) -> Future[Tensors]:
        """The tensors whose memory becomes free: an evicted unit's, or the request's own.

        A kept unit with a lower score is evicted, and the requested unit is kept in its place.
        """
        unit = request.unit
        evicted = self._usage[unit.kind].pop_lowest(
            request.score, lambda key: not self._in_use[key]
        )
        if evicted is None:
            return request.future
        freed = self._kept.pop(evicted)
        self._keep(unit, request.future)
        return freed

    def _keep(self, unit: WeightUnit, future: Future[Tensors]) -> None:
        self._kept[unit.key] = future
        self._usage[unit.kind].add(unit.key)

    def _drop(self, unit: WeightUnit) -> None:
        if self._kept.pop(unit.key, None) is not None:
            self.free_bytes += self._bytes(unit)
            self._usage[unit.kind].remove(unit.key)

    def _fits(self, unit: WeightUnit) -> bool:
        reserved = 0 if unit.key in self._reserved else sum(self._reserved.values())
        return self._bytes(unit) <= self.free_bytes - reserved

    def _bytes(self, unit: WeightUnit) -> int:
        return unit.n_values * self.dtype.itemsize

    def _allocate(self, unit: WeightUnit) -> Tensors:
        options = {"device": self.device, "dtype": self.dtype}
        return {name: torch.empty(shape, **options) for name, shape in unit.shapes.items()}

    @without_grad
    def _read(self, unit: WeightUnit, buffer: Tensors, stream: torch.cuda.Stream | None) -> Tensors:
        targets = []
        for name, parts in unit.parts.items():
            targets += zip(buffer[name].chunk(len(parts)), parts, strict=True)
        # On the same stream, copies wait for kernels that still read the buffer's old weights.
        with torch.cuda.stream(stream):
            self.weights.fill(targets)
        self.bytes_read += self._bytes(unit)
        return buffer


def _read_result(future: Future[Tensors]) -> Tensors:
    """The tensors of a unit that is being read.

    An interrupt inside of `Future.result` can leave its lock released twice, so it comes between.
    """
    while True:
        with HeldInterrupts():
            try:
                return future.result(SECONDS_HELD)
            except NotDone:
                if future.done():
                    raise
