"""The tap that keeps activations while a model runs, pass after pass."""

from collections.abc import Callable, Iterable, Sequence

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
    """A tap that keeps activations of one or more passes, and cuts them into recordings.

    Those of a GPU are brought to the host while it goes on.

    Args:
        names: hook names to keep.
        dtype: of what is kept, where it is a floating-point number; as it ran if None.
    """

    def __init__(self, names: Iterable[str], *, dtype: torch.dtype | None = None) -> None:
        self.pieces: dict[str, list[Tensor]] = {name: [] for name in names}
        self.dtype = dtype
        self._offload = HostTransfer()
        self._deliver: Callable[[], None] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Hooks that are kept."""
        return tuple(self.pieces)

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Keep the activation, detached, and return it unchanged."""
        if name in self.pieces:
            self._take(name, value.detach() if value.requires_grad else value)
        return value

    def keep(self, names: Sequence[str], values: Shaped[Tensor, "hook batch pos *any"]) -> None:
        """Keep activations of several hooks, which come as one tensor."""
        for name, value in zip(names, values, strict=True):
            self._take(name, value)

    def expect(self, deliver: Callable[[], None]) -> None:
        """Have something called once before what was kept is read: it brings what is on its way."""
        self._deliver = deliver

    def _have_delivered(self) -> None:
        # Once: whoever delivers may be at work for another recorder by the next time.
        deliver, self._deliver = self._deliver, None
        if deliver is not None:
            deliver()

    def _take(self, name: str, value: Tensor) -> None:
        converts = self.dtype is not None and value.is_floating_point()
        self._offload.take(value.to(self.dtype) if converts else value, self.pieces[name])

    def wants(self, name: str) -> bool:
        """True if the name is kept."""
        return name in self.pieces

    @property
    def n_complete(self) -> int:
        """Positions for which every hook has been kept; an interrupted pass does not count."""
        self._have_delivered()
        totals = [
            sum(piece.shape[2 if name.endswith(PATTERN_HOOKS) else 1] for piece in pieces)
            for name, pieces in self.pieces.items()
        ]
        return min(totals, default=0)

    def wait(self) -> None:
        """Wait until what was kept is complete: before `pieces` are read."""
        self._have_delivered()
        self._offload.wait()

    def cut(self, spans: Sequence[tuple[int, int]]) -> list[dict[str, Tensor]]:
        """The prompts' activations on the CPU; the recorder is empty afterwards.

        Hook after hook is let go of as it is cut, so that there are never two copies of all.

        Args:
            spans: first and past-the-end position of each row.
        """
        self.wait()
        # What came from a GPU lies beside other hooks of its run, which stay as long.
        lies_well = self._offload.has_copied and len(spans) == 1
        cuts: list[dict[str, Tensor]] = [{} for _ in spans]
        for name, pieces in self.pieces.items():
            if lies_well and len(pieces) == 1 and spans[0] == (0, pieces[0].shape[1]):
                cuts[0][name] = pieces[0][0].cpu()
            else:
                for row, span in enumerate(spans):
                    cuts[row][name] = _cut(name, [piece[row] for piece in pieces], slice(*span))
            pieces.clear()
        return cuts


def _cut(name: str, pieces: list[Tensor], span: slice) -> Tensor:
    """One row's pieces of successive passes as one tensor, its own positions alone."""
    if not name.endswith(PATTERN_HOOKS):
        return _alone(_in_a_row(pieces)[span])
    n_keys, nothing = pieces[-1].shape[-1], -torch.inf if name.endswith("scores") else 0.0
    padded = [F.pad(piece, (0, n_keys - piece.shape[-1]), value=nothing) for piece in pieces]
    whole = _in_a_row([piece.transpose(0, 1) for piece in padded])
    return _alone(whole.transpose(0, 1)[:, span, span])


def _in_a_row(pieces: list[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _alone(value: Tensor) -> Tensor:
    """On the CPU, and copied only where it would hold on to memory that is not its own."""
    shares = value.untyped_storage().nbytes() > value.nbytes
    return value.to("cpu", copy=shares)
