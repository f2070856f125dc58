"""The tap that records activations over one or more passes."""

from collections.abc import Callable, Collection, Iterable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

from qwen3lab.device.host_transfer import HostTransfer
from qwen3lab.hooks.points import PATTERN_HOOKS

ATTENTION = ("blocks.*.attn.hook_rot_q", "blocks.*.attn.hook_rot_k")
ROUTING = tuple(
    f"blocks.*.mlp.hook_{name}" for name in ("router_logits", "expert_indices", "expert_weights")
)


class Recorder:
    """A tap that records activations of one or more passes, and splits them by prompt.

    Activations on a GPU are copied to the host asynchronously, while the model runs.

    Args:
        names: hooks to record.
        dtype: dtype of recorded floating-point values; that of the pass if None.
        exact: hooks whose values keep the dtype of the pass.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        dtype: torch.dtype | None = None,
        exact: Collection[str] = (),
    ) -> None:
        self.pieces: dict[str, list[Tensor]] = {name: [] for name in names}
        self.dtype, self.exact = dtype, exact
        self._transfer = HostTransfer()
        self._deliver_pending: Callable[[], None] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Recorded hooks."""
        return tuple(self.pieces)

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Record the activation, detached, and return it unchanged."""
        if name in self.pieces:
            self._append(name, value.detach() if value.requires_grad else value)
        return value

    def keep(self, names: Sequence[str], values: Shaped[Tensor, "hook batch pos *any"]) -> None:
        """Record activations of several hooks, stacked into one tensor."""
        for name, value in zip(names, values, strict=True):
            self._append(name, value)

    def expect(self, deliver: Callable[[], None]) -> None:
        """Register a function that delivers pending activations; called once before a read."""
        self._deliver_pending = deliver

    def _receive_pending(self) -> None:
        # Called once only: later, the sender may be buffering for another recorder.
        deliver, self._deliver_pending = self._deliver_pending, None
        if deliver is not None:
            deliver()

    def _append(self, name: str, value: Tensor) -> None:
        is_float = value.is_floating_point() and name not in self.exact
        converts = self.dtype is not None and is_float
        self._transfer.take(value.to(self.dtype) if converts else value, self.pieces[name])

    def wants(self, name: str) -> bool:
        """True if the hook is recorded."""
        return name in self.pieces

    @property
    def n_complete(self) -> int:
        """Positions that every hook has; those of an interrupted pass do not count."""
        self._receive_pending()
        totals = [
            sum(piece.shape[2 if name.endswith(PATTERN_HOOKS) else 1] for piece in pieces)
            for name, pieces in self.pieces.items()
        ]
        return min(totals, default=0)

    def wait(self) -> None:
        """Complete all deliveries and copies to the host; call it before reading `pieces`."""
        self._receive_pending()
        self._transfer.wait()

    def cut(self, spans: Sequence[tuple[int, int]]) -> list[dict[str, Tensor]]:
        """The activations of each prompt on the CPU; empties the recorder.

        Each hook's memory is freed after it is split, so that only one hook is in memory twice.

        Args:
            spans: first and past-the-end position of each row.

        Returns:
            For each row, its activations by hook name, without the batch axis.
        """
        self.wait()
        # Copies from a GPU share a buffer with other hooks of the recording: copying out one saves
        # no memory.
        shares_buffer = self._transfer.has_copied and len(spans) == 1
        cuts: list[dict[str, Tensor]] = [{} for _ in spans]
        for name, pieces in self.pieces.items():
            if shares_buffer and len(pieces) == 1 and spans[0] == (0, pieces[0].shape[1]):
                cuts[0][name] = pieces[0][0].cpu()
            else:
                for row, span in enumerate(spans):
                    cuts[row][name] = _cut(name, [piece[row] for piece in pieces], slice(*span))
            pieces.clear()
        return cuts


def _cut(name: str, pieces: list[Tensor], span: slice) -> Tensor:
    """Joins one row's activations of successive passes, and selects the span."""
    if not name.endswith(PATTERN_HOOKS):
        return own_memory(_concatenated(pieces)[span])
    n_keys, masked = pieces[-1].shape[-1], -torch.inf if name.endswith("scores") else 0.0
    padded = [F.pad(piece, (0, n_keys - piece.shape[-1]), value=masked) for piece in pieces]
    joined = _concatenated([piece.transpose(0, 1) for piece in padded])
    return own_memory(joined.transpose(0, 1)[:, span, span])


def _concatenated(pieces: list[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def own_memory(value: Tensor) -> Tensor:
    """The tensor on the CPU; copied if it is a view that would keep a larger tensor in memory."""
    shares = value.untyped_storage().nbytes() > value.nbytes
    return value.to("cpu", copy=shares)
