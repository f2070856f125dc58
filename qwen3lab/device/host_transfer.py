"""Between a GPU and the host: activations that leave while it goes on, and weights that come."""

import torch
from jaxtyping import Shaped
from torch import Tensor

LOAD = 2**26
"""Bytes that are brought over together, at most: to ask for a copy takes the host as long as to
ask for a kernel."""

Slot = tuple[list[Tensor], int]
"""A list, and a place in it."""


def current_stream(device: torch.device | str) -> torch.cuda.Stream | None:
    """Where this thread's work for a GPU goes; None for another device."""
    return torch.cuda.current_stream(device) if torch.device(device).type == "cuda" else None


class HostTransfer:
    """Copies what a CUDA device has computed into pinned memory, on a stream of its own.

    The forward pass does not wait for the copies, and what was copied takes no memory of the GPU
    once it is no longer needed there. Call `wait` before the copies are read.
    """

    def __init__(self) -> None:
        self._waiting: dict[torch.dtype, list[Slot]] = {}
        self._n_bytes = 0
        self._stream: torch.cuda.Stream | None = None

    def take(self, value: Shaped[Tensor, "*any"], into: list[Tensor]) -> None:
        """Append a tensor to a list; after `wait`, a copy on the host stands in its place.

        One that is on the host already stays as it is.
        """
        if value.is_cuda:
            n_bytes = value.nbytes
            if self._n_bytes + n_bytes > LOAD:
                self._send()
            self._waiting.setdefault(value.dtype, []).append((into, len(into)))
            self._n_bytes += n_bytes
        into.append(value)

    def wait(self) -> None:
        """Wait until all copies are complete."""
        self._send()
        if self._stream is not None:
            self._stream.synchronize()

    @property
    def has_copied(self) -> bool:
        """Whether anything has come from a GPU."""
        return self._stream is not None

    def _send(self) -> None:
        """Have what waits copied, as one tensor of each dtype."""
        for dtype, slots in list(self._waiting.items()):
            # Some are in place already where an interrupt came.
            self._replace([(into, place) for into, place in slots if into[place].is_cuda])
            del self._waiting[dtype]
        self._n_bytes = 0

    def _replace(self, slots: list[Slot]) -> None:
        """Put copies of one dtype in their places."""
        if not slots:
            return
        values = [into[place] for into, place in slots]
        flat = [value.reshape(-1) for value in values]
        host = self._copied(flat[0] if len(flat) == 1 else torch.cat(flat))
        parts = host.split([len(value) for value in flat])
        for (into, place), value, part in zip(slots, values, parts, strict=True):
            into[place] = part.view(value.shape)

    def _copied(self, value: Shaped[Tensor, " n"]) -> Shaped[Tensor, " n"]:
        """A copy on the host that is complete once the stream is."""
        if self._stream is None:
            self._stream = torch.cuda.Stream(value.device)
        host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        self._stream.wait_stream(torch.cuda.current_stream(value.device))
        with torch.cuda.stream(self._stream):
            host.copy_(value, non_blocking=True)
        # Its memory must not serve something else before it is copied.
        value.record_stream(self._stream)
        return host


def bring(value: Shaped[Tensor, "*any"], out: Shaped[Tensor, "*any"]) -> None:
    """Copy a tensor of the host into another; to a GPU through pinned memory.

    (Other memory cannot be copied to a GPU at its speed, and by one thread alone.) It waits for
    the copy, and begins only after what this thread's current stream has been asked to do.
    """
    if not out.is_cuda:
        out.copy_(value)
        return
    host = value if value.is_pinned() else value.pin_memory()
    stream = torch.cuda.Stream(out.device)
    stream.wait_stream(torch.cuda.current_stream(out.device))
    with torch.cuda.stream(stream):
        # Converted there, if at all: on the way it would go by another, unpinned copy.
        same = host.dtype == out.dtype
        out.copy_(host if same else host.to(out.device, non_blocking=True), non_blocking=True)
    stream.synchronize()
