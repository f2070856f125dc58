"""Asynchronous copies between a GPU and the host, through pinned memory."""

import torch
from jaxtyping import Shaped
from torch import Tensor

MAX_BATCHED_BYTES = 2**26
"""Bytes in one batch of copies; batches save the host time, as each copy is one launch."""

ListItem = tuple[list[Tensor], int]
"""A list of tensors, and the index of one of them."""


def current_stream(device: torch.device | str) -> torch.cuda.Stream | None:
    """This thread's current stream on a GPU; None for another device."""
    return torch.cuda.current_stream(device) if torch.device(device).type == "cuda" else None


class HostTransfer:
    """Copies tensors from a GPU to pinned host memory, asynchronously on a separate stream.

    The forward pass does not wait for the copies. A copied tensor's GPU memory is freed as soon as
    nothing else refers to it. Call `wait` before the copies are read.
    """

    def __init__(self) -> None:
        self._pending: dict[torch.dtype, list[ListItem]] = {}
        self._n_pending_bytes = 0
        self._stream: torch.cuda.Stream | None = None

    def take(self, value: Shaped[Tensor, "*any"], into: list[Tensor]) -> None:
        """Append a tensor to a list; `wait` replaces it there with its copy on the host.

        A tensor that is already on the host is not copied.

        Args:
            value: the tensor.
            into: the list.
        """
        if value.is_cuda:
            n_bytes = value.nbytes
            if self._n_pending_bytes + n_bytes > MAX_BATCHED_BYTES:
                self._copy_pending()
            self._pending.setdefault(value.dtype, []).append((into, len(into)))
            self._n_pending_bytes += n_bytes
        into.append(value)

    def wait(self) -> None:
        """Copy all pending tensors, and synchronise with the copy stream."""
        self._copy_pending()
        if self._stream is not None:
            self._stream.synchronize()

    @property
    def has_copied(self) -> bool:
        """True if any tensor has been copied from a GPU."""
        return self._stream is not None

    def _copy_pending(self) -> None:
        """Start the copies of all pending tensors, concatenated by dtype."""
        for dtype, items in list(self._pending.items()):
            # After an interrupt, some have already been replaced by their copies.
            self._replace([(into, index) for into, index in items if into[index].is_cuda])
            del self._pending[dtype]
        self._n_pending_bytes = 0

    def _replace(self, items: list[ListItem]) -> None:
        """Replace tensors of one dtype by their copies on the host."""
        if not items:
            return
        values = [into[index] for into, index in items]
        flat = [value.reshape(-1) for value in values]
        host = self._copy_to_host(flat[0] if len(flat) == 1 else torch.cat(flat))
        parts = host.split([len(value) for value in flat])
        for (into, index), value, part in zip(items, values, parts, strict=True):
            into[index] = part.view(value.shape)

    def _copy_to_host(self, value: Shaped[Tensor, " n"]) -> Shaped[Tensor, " n"]:
        """A copy in pinned memory; it is complete once the copy stream is synchronised."""
        if self._stream is None:
            self._stream = torch.cuda.Stream(value.device)
        host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        self._stream.wait_stream(torch.cuda.current_stream(value.device))
        with torch.cuda.stream(self._stream):
            host.copy_(value, non_blocking=True)
        # Without this, the allocator may reuse the memory of `value` before the copy has ended.
        value.record_stream(self._stream)
        return host


def bring(value: Shaped[Tensor, "*any"], out: Shaped[Tensor, "*any"]) -> None:
    """Copy a tensor on the host into another one; to a GPU through pinned memory, for speed.

    The copy starts after all work queued on this thread's current stream. Returns once the copy is
    complete.

    Args:
        value: the source, on the host.
        out: the destination, on any device.
    """
    if not out.is_cuda:
        out.copy_(value)
        return
    host = value if value.is_pinned() else value.pin_memory()
    stream = torch.cuda.Stream(out.device)
    stream.wait_stream(torch.cuda.current_stream(out.device))
    with torch.cuda.stream(stream):
        # Convert the dtype on the GPU: `copy_` would convert on the host, into unpinned memory.
        same = host.dtype == out.dtype
        out.copy_(host if same else host.to(out.device, non_blocking=True), non_blocking=True)
    stream.synchronize()
