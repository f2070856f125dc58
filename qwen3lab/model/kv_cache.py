"""KV cache: keys and values of past positions.

Layers write new keys and values past the end; the model advances `length` after the last layer. A
forward pass that fails half-way therefore leaves `length` and the past positions unchanged.

All rows of a batch write at the same position, and end there. A row that joins later is therefore
put in with padding before it, and when the longest row has left, all are shifted to the left.

A `CacheWindow` gives a pass of fixed shape access to a cache; its position is stored on the device.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.arguments import whole
from qwen3lab.config.qwen3_config import Qwen3Config


class KVCache:
    """Rotated keys and values of every layer, for `length` positions of a batch.

    Args:
        config: the model's sizes.
        batch: number of prompts.
        capacity: positions to allocate at first; it doubles when it is full.
        device: device of the keys and values.
        dtype: the model's dtype.

    Raises:
        ValueError: `batch` is no integer of 1 or more, or `capacity` none of 0 or more.

    Attributes:
        length: number of past positions, padding included.
        padded: True if a past position may be padding.
    """

    def __init__(
        self,
        config: Qwen3Config,
        *,
        batch: int = 1,
        capacity: int = 256,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        batch, capacity = whole(batch, "batch", least=1), whole(capacity, "capacity", least=0)
        shape = (config.n_layers, 2, batch, config.n_kv_heads, max(capacity, 1), config.d_head)
        self._kv = torch.zeros(shape, device=device, dtype=dtype)
        self._mask = torch.zeros(batch, max(capacity, 1), dtype=torch.bool, device=device)
        self._n_used = batch
        self.length = 0
        self.padded = False

    @property
    def batch(self) -> int:
        """Number of rows that a pass runs: those in use."""
        return self._n_used

    @property
    def rows(self) -> int:
        """Rows that are allocated."""
        return self._mask.shape[0]

    @property
    def capacity(self) -> int:
        """Positions that are allocated; the cache grows beyond them."""
        return self._mask.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes that are allocated for keys and values."""
        return self._kv.nbytes

    @property
    def mask(self) -> Bool[Tensor, "batch past"]:
        """True where a past position is a real token, False where it is padding."""
        return self._used_mask[:, : self.length]

    @property
    def _used_mask(self) -> Bool[Tensor, "batch capacity"]:
        return self._mask if self._n_used == self.rows else self._mask[: self._n_used]

    def reserve(self, n_new: int) -> None:
        """Allocate memory for `n_new` more positions; the capacity at least doubles if it grows."""
        needed = self.length + n_new
        if needed <= self.capacity:
            return
        more = max(needed, 2 * self.capacity) - self.capacity
        self._kv = torch.nn.functional.pad(self._kv, (0, 0, 0, more))
        self._mask = torch.nn.functional.pad(self._mask, (0, more))

    def write(
        self,
        layer: int,
        k: Float[Tensor, "batch kv_head new d_head"],
        v: Float[Tensor, "batch kv_head new d_head"],
    ) -> tuple[
        Float[Tensor, "batch kv_head key d_head"], Float[Tensor, "batch kv_head key d_head"]
    ]:
        """Write a layer's new keys and values after the past ones; returns past and new ones."""
        end = self.length + k.shape[2]
        used = self._kv[layer] if self._n_used == self.rows else self._kv[layer, :, : self._n_used]
        keys, values = used[0], used[1]
        keys[:, :, self.length : end] = k
        values[:, :, self.length : end] = v
        return keys[:, :, :end], values[:, :, :end]

    def alias(self) -> "KVCache":
        """An empty cache that shares the memory of this one."""
        other = object.__new__(KVCache)
        other._kv, other._mask, other._n_used = self._kv, self._mask, self.rows
        other.length, other.padded = 0, False
        return other

    def fits(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> bool:
        """Whether the cache has this batch size, capacity, device and dtype."""
        made = (self.rows, self.capacity, self._kv.device, self._kv.dtype)
        return made == (batch, capacity, device, dtype)

    def shares_memory(self, other: "KVCache") -> bool:
        """Whether both caches use the same memory."""
        return self._kv is other._kv and self._mask is other._mask

    def clear(self) -> None:
        """Empty the cache and zero its memory, as an edit may have left infinite or NaN values."""
        self._kv.zero_()
        self._mask.zero_()
        self.length, self.padded = 0, False

    def advance(self, mask: Bool[Tensor, "batch new"], *, padded: bool = True) -> None:
        """Count the new positions as past, after all layers have written them.

        Args:
            mask: True where the new token is real.
            padded: False if no past or new position is padding; a value known on the host.
        """
        self.padded = padded
        end = self.length + mask.shape[1]
        self._used_mask[:, self.length : end] = mask
        self.length = end

    def rewind(self, length: int) -> None:
        """Drop all positions from `length` on.

        Raises:
            ValueError: `length` is no integer, negative, or greater than the current length.
        """
        length = whole(length, "length")
        if not 0 <= length <= self.length:
            raise ValueError(
                f"cannot rewind to {length} positions: the cache holds {self.length}, "
                f"so give a number from 0 to {self.length}"
            )
        self.length = length

    def forget(self, ends: Int[Tensor, " batch"]) -> None:
        """Rewind each row to its own position.

        The cache's length becomes the largest of these positions. In the other rows, the positions
        from their own end to that length become padding.

        Args:
            ends: number of positions that each row keeps.

        Raises:
            ValueError: a position is negative, or greater than the current length.
        """
        if int(ends.min()) < 0:
            self.rewind(int(ends.min()))
        self.rewind(int(ends.max()))
        if int(ends.min()) < self.length:
            positions = torch.arange(self.length, device=self._mask.device)
            self._used_mask[:, : self.length] &= positions < ends.to(positions.device)[:, None]
            self.padded = True

    def advance_seen(self, *, padded: bool) -> None:
        """Count one more position as past; a pass over a `CacheWindow` has set its mask already."""
        self.length, self.padded = self.length + 1, padded

    def select(self, rows: list[int]) -> "KVCache":
        """A copy with these rows of the batch; a row may be listed more than once.

        Raises:
            ValueError: there is no such row.
        """
        rows = [whole(row, "a row", least=0, most=self.batch - 1) for row in rows]
        selected = object.__new__(KVCache)
        selected._kv = self._kv[:, :, rows]
        selected._mask, selected._n_used = self._mask[rows], len(rows)
        selected.length, selected.padded = self.length, self.padded
        return selected

    def use_rows(self, n: int) -> None:
        """Run passes over the first `n` rows only; what the others hold stays in memory.

        Raises:
            ValueError: `n` is not one of 1 to the number of allocated rows.
        """
        self._n_used = whole(n, "rows", least=1, most=self.rows)

    def widen(self, length: int) -> None:
        """Shift all rows to the right, so that at least `length` positions are past."""
        more = length - self.length
        if more <= 0:
            return
        self.reserve(more)
        self._shift(more)
        self._mask[:, :more] = False
        self.length, self.padded = length, True

    def put(self, row: int, source: "KVCache", source_row: int, n: int | None = None) -> None:
        """Replace a row by the real positions of a row of another cache; both end at the same one.

        Args:
            row: of this cache, which has `length` past positions or more; see `widen`.
            source: the other cache.
            source_row: of the other cache.
            n: number of positions, from the first; None for all.
        """
        real = source._mask[source_row, : source.length].nonzero()[:n, 0]
        first = self.length - len(real)
        assert n is None or len(real) == n, "the other cache holds fewer positions"
        assert first >= 0, "the row is longer than the cache's past"
        self.vacate(row)
        for own, other in zip(self._kv, source._kv, strict=True):
            own[:, row, :, first : self.length] = other[:, source_row].index_select(2, real)
        self._mask[row, first : self.length] = True
        self.padded = True

    def taken(self, row: int) -> "KVCache":
        """A copy of a row's real positions, as a cache of one row."""
        real = self._mask[row, : self.length].nonzero()[:, 0]
        taken = object.__new__(KVCache)
        taken._kv = self._kv[:, :, row : row + 1].index_select(4, real)
        taken._mask = self._mask.new_ones(1, len(real))
        taken._n_used, taken.length, taken.padded = 1, len(real), False
        return taken

    def vacate(self, row: int) -> None:
        """Make all past positions of a row padding."""
        self._mask[row, : self.length] = False
        self.padded = True

    def move(self, row: int, to: int) -> None:
        """Copy a row over another one."""
        self._kv[:, :, to, :, : self.length] = self._kv[:, :, row, :, : self.length]
        self._mask[to, : self.length] = self._mask[row, : self.length]

    def trim(self, *, least: int = 1) -> None:
        """Shift the rows to the left by the positions that are padding in all of them.

        Args:
            least: number of such positions from which on the copy is made.
        """
        used = self.mask.any(dim=0)
        n_unused = int(used.int().argmax()) if bool(used.any()) else self.length
        if n_unused >= max(least, 1):
            self._shift(-n_unused)
            self.length -= n_unused

    def _shift(self, by: int) -> None:
        """Copy the past positions to the right, or to the left, layer by layer."""
        old = slice(max(-by, 0), self.length)
        new = slice(max(by, 0), self.length + by)
        for layer in self._kv:
            layer[..., new, :] = layer[..., old, :].clone()
        self._mask[:, new] = self._mask[:, old].clone()


class CacheWindow:
    """The first positions of a cache, for decoding steps of fixed shape (one new token per row).

    The position of the new token is stored on the device, and attention reads the whole window,
    with a mask for the positions that are not yet written. A pass over the window can therefore be
    captured as a CUDA graph and replayed for every step.

    Args:
        cache: the cache; the window shares its memory.
        size: number of positions, at most the cache's capacity.
        inverse: radians per position of each rotated pair, on the cache's device.

    Attributes:
        at: position of the new token, on the device.
    """

    def __init__(self, cache: KVCache, size: int, inverse: Float[Tensor, " pair"]) -> None:
        self.inverse = inverse
        self._kv, self._mask = cache._kv[..., :size, :], cache._mask[:, :size]
        self.at = torch.full((1,), cache.length, device=cache._mask.device)
        self._positions = torch.arange(size, device=cache._mask.device)

    def see(
        self, real: Bool[Tensor, "batch 1"]
    ) -> tuple[Bool[Tensor, "batch key"], Bool[Tensor, " key"]]:
        """Set the mask of the new token.

        Args:
            real: True where the new token is real.

        Returns:
            True at real tokens up to the new one; and True at the position of the new one.
        """
        self._mask.index_copy_(1, self.at, real)
        return self._mask & (self._positions <= self.at), self._positions == self.at

    def write(
        self,
        layer: int,
        k: Float[Tensor, "batch kv_head 1 d_head"],
        v: Float[Tensor, "batch kv_head 1 d_head"],
    ) -> tuple[
        Float[Tensor, "batch kv_head key d_head"], Float[Tensor, "batch kv_head key d_head"]
    ]:
        """Write a layer's new key and value at `at`; returns the keys and values of the window."""
        keys, values = self._kv[layer, 0], self._kv[layer, 1]
        return keys.index_copy_(2, self.at, k), values.index_copy_(2, self.at, v)
