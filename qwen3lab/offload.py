"""Activations on their way from a GPU to the host, while the GPU goes on."""

import torch
from jaxtyping import Shaped
from torch import Tensor

SMALL = 2**20
"""Bytes below which a tensor is left where it is: those of a single token are many and small."""


class Offload:
    """Copies what a CUDA device has computed into pinned memory, on a stream of its own.

    The forward pass does not wait for the copies, and what was copied takes no memory of the GPU
    once it is no longer needed there. Call `wait` before the copies are read.
    """

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def take(self, value: Shaped[Tensor, "*any"]) -> Shaped[Tensor, "*any"]:
        """A copy on the host, complete after `wait`; the tensor itself if it is small or there."""
        if not value.is_cuda or value.nbytes < SMALL:
            return value
        if value.device not in self._streams:
            self._streams[value.device] = torch.cuda.Stream(value.device)
        stream = self._streams[value.device]
        host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        stream.wait_stream(torch.cuda.current_stream(value.device))
        with torch.cuda.stream(stream):
            host.copy_(value, non_blocking=True)
        # Its memory must not serve something else before it is copied.
        value.record_stream(stream)
        return host

    def wait(self) -> None:
        """Wait until all copies are complete."""
        for stream in self._streams.values():
            stream.synchronize()
