"""Weights on call: what is needed most is kept, the rest is read again whenever it is needed.

While one unit of weights is used, the next is read in another thread, into memory that is used
again and again.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from qwen3lab.checkpoints.safetensors_reader import CheckpointReader
from qwen3lab.checkpoints.tensor_names import StoredPart
from qwen3lab.device.host_transfer import current_stream
from qwen3lab.streaming.eviction import Key, UsageCounts

DEPTH = 2
"""Units of a kind in memory beside those that are kept: one in use, one being read."""


Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Unit:
    """Weights that are read together: a layer without its experts, or one expert.

    Attributes:
        key: tells it from others.
        shapes: of its tensors, by name.
        parts: what each tensor is made of, one part for each equal stretch of its rows.
    """

    key: Key
    shapes: Mapping[str, tuple[int, ...]]
    parts: Mapping[str, Sequence[StoredPart]]

    @property
    def n_values(self) -> int:
        """Numbers in all of its tensors."""
        return sum(torch.Size(shape).numel() for shape in self.shapes.values())

    @property
    def kind(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Units of one kind fit into the same memory."""
        return tuple(self.shapes.items())


@dataclass(frozen=True)
class Loan:
    """A unit that has been asked for.

    Attributes:
        unit: which.
        future: its tensors, once they are read.
        score: how often it had been asked for before.
    """

    unit: Unit
    future: Future[Tensors]
    score: float


class WeightCache:
    """Reads units of weights from a checkpoint, and keeps those that are needed most.

    While there is room, whatever is read is kept. From then on a unit that is asked for more often
    than one that is kept takes its place. Where every pass needs all of them, nothing moves.

    Args:
        weights: the checkpoint.
        room: bytes for what is kept.
        device: where the tensors go.
        dtype: what they become.

    Attributes:
        room: bytes that are left for what is kept.
        bytes_read: of all units so far, in the dtype that they have become.
        bytes_used: of all units that were asked for so far, read or kept.
    """

    def __init__(
        self,
        weights: CheckpointReader,
        *,
        room: int,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> None:
        self.weights, self.room, self.device, self.dtype = weights, room, device, dtype
        self._all_room = room
        self.bytes_read = self.bytes_used = 0
        self._reserved: dict[Key, int] = {}
        self._kept: dict[Key, Future[Tensors]] = {}
        self._lent: Counter[Key] = Counter()
        self._usage: defaultdict[object, UsageCounts] = defaultdict(UsageCounts)
        self._free: defaultdict[object, list[Tensors]] = defaultdict(list)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="qwen3lab-shelf")

    def reserve(self, units: Iterable[Unit]) -> None:
        """Keep room for these, which every pass needs, before others are kept."""
        self._reserved |= {unit.key: self._bytes(unit) for unit in units}

    @property
    def kept_bytes(self) -> int:
        """Bytes of what is kept."""
        return self._all_room - self.room

    def stream(self, units: Iterable[Unit]) -> Iterator[Tensors]:
        """The tensors of one unit after another; each is good until the next is asked for.

        Raises:
            CheckpointError: a file can no longer be read.
        """
        coming = iter(units)
        ahead: deque[Loan] = deque()

        def look_ahead() -> None:
            unit = next(coming, None)
            if unit is not None:
                ahead.append(self._begin(unit))

        for _ in range(DEPTH):
            look_ahead()
        try:
            while ahead:
                yield ahead[0].future.result()
                self._put_back(ahead.popleft())
                look_ahead()
        finally:
            while ahead:
                self._put_back(ahead.popleft())

    def read(self, unit: Unit) -> Tensors:
        """A unit's tensors in memory of their own, to be held for as long as one likes."""
        return self._read(unit, self._made(unit), None)

    def _begin(self, unit: Unit) -> Loan:
        """Have a unit read, unless it is kept; keep it if there is room."""
        self.bytes_used += self._bytes(unit)
        self._lent[unit.key] += 1
        score = self._usage[unit.kind].ask(unit.key)
        if unit.key in self._kept:
            return Loan(unit, self._kept[unit.key], score)
        keep = self._has_room(unit)
        free = [] if keep else self._free[unit.kind]
        into = free.pop() if free else self._made(unit)
        future = self._reader.submit(self._read, unit, into, current_stream(self.device))
        if keep:
            self.room -= self._bytes(unit)
            self._reserved.pop(unit.key, None)
            self._keep(unit, future)
        return Loan(unit, future, score)

    def _put_back(self, loan: Loan) -> None:
        """What is not kept gives its memory back; one that failed is forgotten."""
        unit, error = loan.unit, loan.future.exception()
        self._lent[unit.key] -= 1
        if error is not None:
            self._forget(unit)
        elif unit.key not in self._kept:
            self._free[unit.kind].append(self._exchanged(loan).result())

    def _exchanged(self, loan: Loan) -> Future[Tensors]:
        """Whose memory is free: a kept unit's, if it is asked for less often, or the loan's own."""
        unit = loan.unit
        other = self._usage[unit.kind].replaceable(loan.score, lambda key: not self._lent[key])
        if other is None:
            return loan.future
        freed = self._kept.pop(other)
        self._keep(unit, loan.future)
        return freed

    def _keep(self, unit: Unit, future: Future[Tensors]) -> None:
        self._kept[unit.key] = future
        self._usage[unit.kind].keep(unit.key)

    def _forget(self, unit: Unit) -> None:
        if self._kept.pop(unit.key, None) is not None:
            self.room += self._bytes(unit)
            self._usage[unit.kind].forget(unit.key)

    def _has_room(self, unit: Unit) -> bool:
        spoken_for = 0 if unit.key in self._reserved else sum(self._reserved.values())
        return self._bytes(unit) <= self.room - spoken_for

    def _bytes(self, unit: Unit) -> int:
        return unit.n_values * self.dtype.itemsize

    def _made(self, unit: Unit) -> Tensors:
        made = {"device": self.device, "dtype": self.dtype}
        return {name: torch.empty(shape, **made) for name, shape in unit.shapes.items()}

    @torch.no_grad()
    def _read(self, unit: Unit, into: Tensors, after: torch.cuda.Stream | None) -> Tensors:
        pieces = []
        for name, parts in unit.parts.items():
            pieces += zip(into[name].chunk(len(parts)), parts, strict=True)
        # What is asked of a GPU there may still be at work with this memory.
        with torch.cuda.stream(after):
            self.weights.fill(pieces)
        self.bytes_read += self._bytes(unit)
        return into
