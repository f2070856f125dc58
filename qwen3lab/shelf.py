"""Weights on call: what there is room for is kept, the rest is read again whenever it is needed.

While one unit of weights is used, the next is read in another thread, into memory that is used
again and again.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from qwen3lab.published import Part
from qwen3lab.weights import Weights

DEPTH = 2
"""Units of a kind in memory beside those that are kept: one in use, one being read."""


@dataclass(frozen=True)
class Unit:
    """Weights that are read together: a layer without its experts, or one expert.

    Attributes:
        key: tells it from others.
        shapes: of its tensors, by name.
        parts: what each tensor is made of, one part for each equal stretch of its rows.
    """

    key: tuple[int, int]
    shapes: Mapping[str, tuple[int, ...]]
    parts: Mapping[str, Sequence[Part]]

    @property
    def n_values(self) -> int:
        """Numbers in all of its tensors."""
        return sum(torch.Size(shape).numel() for shape in self.shapes.values())

    @property
    def kind(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Units of one kind fit into the same memory."""
        return tuple(self.shapes.items())


Tensors = dict[str, Tensor]


class Shelf:
    """Reads units of weights from a checkpoint, and keeps the first ones while there is room.

    Which ones are kept hardly matters where every pass needs all of them in the same order; to
    exchange them would only cost.

    Args:
        weights: the checkpoint.
        room: bytes for what is kept.
        device: where the tensors go.
        dtype: what they become.

    Attributes:
        room: bytes that are left for what is kept.
        bytes_read: of all units so far, in the dtype that they have become.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        room: int,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> None:
        self.weights, self.room, self.device, self.dtype = weights, room, device, dtype
        self._all_room = room
        self.bytes_read = 0
        self._kept: dict[tuple[int, int], Future[Tensors]] = {}
        self._free: dict[object, list[Tensors]] = {}
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="qwen3lab-shelf")

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
        ahead: deque[tuple[Unit, Future[Tensors]]] = deque()

        def look_ahead() -> None:
            unit = next(coming, None)
            if unit is not None:
                ahead.append((unit, self._begin(unit)))

        for _ in range(DEPTH):
            look_ahead()
        try:
            while ahead:
                yield ahead[0][1].result()
                self._put_back(*ahead.popleft())
                look_ahead()
        finally:
            while ahead:
                self._put_back(*ahead.popleft())

    def read(self, unit: Unit) -> Tensors:
        """A unit's tensors in memory of their own, to be held for as long as one likes."""
        return self._read(unit, self._made(unit))

    def _begin(self, unit: Unit) -> Future[Tensors]:
        """Have a unit read, unless it is kept; keep it if there is room."""
        if unit.key in self._kept:
            return self._kept[unit.key]
        n_bytes = unit.n_values * self.dtype.itemsize
        keep = n_bytes <= self.room
        free = [] if keep else self._free.setdefault(unit.kind, [])
        into = free.pop() if free else self._made(unit)
        future = self._reader.submit(self._read, unit, into)
        if keep:
            self.room -= n_bytes
            self._kept[unit.key] = future
        return future

    def _put_back(self, unit: Unit, future: Future[Tensors]) -> None:
        """The memory of a unit that is not kept serves again; one that failed is forgotten."""
        error = future.exception()
        if unit.key in self._kept:
            if error is not None:
                del self._kept[unit.key]
                self.room += unit.n_values * self.dtype.itemsize
        elif error is None:
            self._free.setdefault(unit.kind, []).append(future.result())

    def _made(self, unit: Unit) -> Tensors:
        made = {"device": self.device, "dtype": self.dtype}
        return {name: torch.empty(shape, **made) for name, shape in unit.shapes.items()}

    @torch.no_grad()
    def _read(self, unit: Unit, into: Tensors) -> Tensors:
        pieces = []
        for name, parts in unit.parts.items():
            pieces += zip(into[name].chunk(len(parts)), parts, strict=True)
        self.weights.fill(pieces)
        self.bytes_read += unit.n_values * self.dtype.itemsize
        return into
