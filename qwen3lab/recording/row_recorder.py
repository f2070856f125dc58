"""Records rows that join and leave a batch, each as if it had run alone."""

from collections.abc import Hashable, Iterable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from qwen3lab.hooks.points import PATTERN_HOOKS
from qwen3lab.recording.recorder import Recorder, own_memory


class RowRecorder(Recorder):
    """A recorder of passes whose rows change: before they do, `split` gives each row its part.

    A row is any object, such as the one that a pool decodes. Rows that follow the same tokens share
    the recording of these: `begin`.
    """

    def __init__(self, names: Iterable[str], *, dtype: torch.dtype | None = None) -> None:
        super().__init__(names, dtype=dtype)
        self._parts: dict[Hashable, dict[str, list[Tensor]]] = {}
        self._has_patterns = any(name.endswith(PATTERN_HOOKS) for name in self.names)

    def begin(self, row: Hashable, *, after: Hashable | None = None) -> None:
        """Start the recording of a row with that of another one, if it has any."""
        before = self._parts.get(after, {}) if after is not None else {}
        self._parts[row] = {name: list(before.get(name, ())) for name in self.names}

    def split(
        self,
        rows: Sequence[Hashable | None],
        mask: Bool[Tensor, "batch key"],
        *,
        widths: Sequence[int] | None = None,
    ) -> None:
        """Add what was recorded since the last time to the rows' recordings.

        Activations of an interrupted pass are dropped.

        Args:
            rows: the row at each index of the batch; None where nothing is kept.
            mask: True at the positions of the cache that are the row's own.
            widths: the last positions of the passes that are the row's own; None for all.
        """
        n = self.n_complete
        self.wait()
        keys = [of_row.nonzero()[:, 0].cpu() for of_row in mask] if self._has_patterns else []
        for name, pieces in self.pieces.items():
            if n and name.endswith(PATTERN_HOOKS):
                self._split_patterns(name, pieces, rows, keys, mask.shape[1], n, widths)
            elif n:
                value = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)
                for index, row in enumerate(rows):
                    if row is not None:
                        first = n - widths[index] if widths else 0
                        self._parts_of(row)[name].append(value[index, first:n])
            pieces.clear()

    def drop(self) -> None:
        """Forget what was recorded since the last `split`."""
        self.wait()
        for pieces in self.pieces.values():
            pieces.clear()

    def _split_patterns(
        self,
        name: str,
        pieces: Sequence[Tensor],
        rows: Sequence[Hashable | None],
        keys: Sequence[Tensor],
        mask_length: int,
        n: int,
        widths: Sequence[int] | None,
    ) -> None:
        """`split` for values with an axis of keys, of which a row keeps its own."""
        for piece in pieces:
            queries, n = min(piece.shape[2], n), n - piece.shape[2]
            for index, row in enumerate(rows):
                if row is None or queries <= 0:
                    continue
                own = _own_keys(keys[index], mask_length, piece.shape[3]).to(piece.device)
                first = queries - widths[index] if widths else 0
                kept = piece[index, :, first:queries].index_select(-1, own)
                self._parts_of(row)[name].append(kept)

    def _parts_of(self, row: Hashable) -> dict[str, list[Tensor]]:
        if row not in self._parts:
            self.begin(row)
        return self._parts[row]

    def length(self, row: Hashable) -> int:
        """Number of positions that are recorded of a row."""
        parts = self._parts.get(row, {})
        axis = {name: int(name.endswith(PATTERN_HOOKS)) for name in parts}
        totals = [sum(each.shape[axis[name]] for each in of) for name, of in parts.items()]
        return min(totals, default=0)

    def join(self, row: Hashable) -> None:
        """Join the parts of a row that has ended: frees what they share with other rows."""
        for name, parts in self._parts.get(row, {}).items():
            if parts:
                self._parts[row][name] = [_joined(name, parts)]

    def forget(self, row: Hashable) -> None:
        """Forget the recording of a row; rows that began with it keep their part."""
        self._parts.pop(row, None)

    def taken(self, row: Hashable) -> dict[str, Tensor] | None:
        """The activations of a row by hook name, on the CPU; None if there are none.

        The recorder forgets them.
        """
        if self.length(row) == 0:
            return None
        self.join(row)
        return {name: part for name, [part] in self._parts.pop(row).items()}


def _own_keys(known: Tensor, n_known: int, n_keys: int) -> Tensor:
    """The keys of a pass that are a row's own: of the first `n_known` those given, and all others.

    An interrupt can end a pass that is recorded, but not counted as past.
    """
    return torch.cat([known[known < n_keys], torch.arange(n_known, max(n_known, n_keys))])


def _joined(name: str, parts: Sequence[Tensor]) -> Tensor:
    """The parts of one row as one tensor in memory of its own, on the CPU."""
    axis = 0
    if name.endswith(PATTERN_HOOKS):
        masked = -torch.inf if name.endswith("scores") else 0.0
        n_keys, axis = parts[-1].shape[-1], 1
        parts = [F.pad(part, (0, n_keys - part.shape[-1]), value=masked) for part in parts]
    return own_memory(parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=axis))
