"""Keys and values of past positions.

Layers write; only the one who runs the model advances or rewinds. A forward pass that fails
half-way therefore leaves the cache where it was.

A `CacheWindow` is how a pass of fixed shape sees a cache: where it stands is read on the device.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config


class KVCache:
    """Rotated keys and values of every layer, for `length` positions of a batch.

    Args:
        config: the model's sizes.
        batch: prompts that run together.
        capacity: positions to make room for at first; it doubles when it is used up.
        device: where the keys and values live.
        dtype: the model's dtype.
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
        shape = (config.n_layers, 2, batch, config.n_kv_heads, max(capacity, 1), config.d_head)
        self._kv = torch.zeros(shape, device=device, dtype=dtype)
        self._mask = torch.zeros(batch, max(capacity, 1), dtype=torch.bool, device=device)
        self.length = 0
        self.padded = False

    @property
    def batch(self) -> int:
        """Prompts that run together."""
        return self._mask.shape[0]

    @property
    def capacity(self) -> int:
        """Positions there is room for before the cache grows."""
        return self._mask.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values that there is room for."""
        return self._kv.nbytes

    @property
    def mask(self) -> Bool[Tensor, "batch past"]:
        """True where a past position holds a real token and not left padding."""
        return self._mask[:, : self.length]

    def reserve(self, n_new: int) -> None:
        """Make room for `n_new` more positions, at least doubling when it grows."""
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
        """Put a layer's new keys and values after the past ones, and return all of them."""
        end = self.length + k.shape[2]
        keys, values = self._kv[layer, 0], self._kv[layer, 1]
        keys[:, :, self.length : end] = k
        values[:, :, self.length : end] = v
        return keys[:, :, :end], values[:, :, :end]

    def alias(self) -> "KVCache":
        """Another cache in the same memory, which holds nothing yet."""
        other = object.__new__(KVCache)
        other._kv, other._mask = self._kv, self._mask
        other.length, other.padded = 0, False
        return other

    def fits(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> bool:
        """Whether it is as `new_cache` would make it."""
        made = (self.batch, self.capacity, self._kv.device, self._kv.dtype)
        return made == (batch, capacity, device, dtype)

    def shares_memory(self, other: "KVCache") -> bool:
        """Whether both lie in the same memory."""
        return self._kv is other._kv and self._mask is other._mask

    def clear(self) -> None:
        """Forget everything, and wipe it: an edit may have left infinities."""
        self._kv.zero_()
        self._mask.zero_()
        self.length, self.padded = 0, False

    def advance(self, mask: Bool[Tensor, "batch new"], *, padded: bool = True) -> None:
        """Count what every layer has now written as past.

        Args:
            mask: True where the new token is real.
            padded: False if no position so far is padding, known without asking the device.
        """
        self.padded = padded
        end = self.length + mask.shape[1]
        self._mask[:, self.length : end] = mask
        self.length = end

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on.

        Raises:
            ValueError: `length` is negative or beyond what the cache holds.
        """
        if not 0 <= length <= self.length:
            raise ValueError(
                f"cannot rewind to {length} positions: the cache holds {self.length}, "
                f"so give a number from 0 to {self.length}"
            )
        self.length = length

    def forget(self, ends: Int[Tensor, " batch"]) -> None:
        """Rewind to the furthest of these positions, and each row to its own.

        What a row held from its own position on is as padding from then on.

        Raises:
            ValueError: a position is negative or beyond what the cache holds.
        """
        if int(ends.min()) < 0:
            self.rewind(int(ends.min()))
        self.rewind(int(ends.max()))
        if int(ends.min()) < self.length:
            places = torch.arange(self.length, device=self._mask.device)
            self._mask[:, : self.length] &= places < ends.to(places.device)[:, None]
            self.padded = True

    def advance_seen(self, *, padded: bool) -> None:
        """Count one more position, which a pass over a `CacheWindow` has noted already."""
        self.length, self.padded = self.length + 1, padded

    def select(self, rows: list[int]) -> "KVCache":
        """A copy that holds only these rows of the batch, each as often as it is named."""
        chosen = object.__new__(KVCache)
        chosen._kv = self._kv[:, :, rows]
        chosen._mask = self._mask[rows]
        chosen.length, chosen.padded = self.length, self.padded
        return chosen


class CacheWindow:
    """The first positions of a cache, for passes of one new token a row and of one shape.

    Where the token goes is a number on the device, and the whole window is looked at, whatever of
    it is filled. So a pass over it can be captured as a CUDA graph, and run again for every step.

    Args:
        cache: whose memory is shared.
        size: positions, at most the cache's capacity.
        inverse: radians per position of each rotated pair, on the cache's device.

    Attributes:
        at: the place of the new token.
    """

    def __init__(self, cache: KVCache, size: int, inverse: Float[Tensor, " pair"]) -> None:
        self.inverse = inverse
        self._kv, self._mask = cache._kv[..., :size, :], cache._mask[:, :size]
        self.at = torch.full((1,), cache.length, device=cache._mask.device)
        self._places = torch.arange(size, device=cache._mask.device)

    def see(
        self, real: Bool[Tensor, "batch 1"]
    ) -> tuple[Bool[Tensor, "batch key"], Bool[Tensor, " key"]]:
        """Note the new token; gives where real ones stand, up to it, and where it stands."""
        self._mask.index_copy_(1, self.at, real)
        return self._mask & (self._places <= self.at), self._places == self.at

    def write(
        self,
        layer: int,
        k: Float[Tensor, "batch kv_head 1 d_head"],
        v: Float[Tensor, "batch kv_head 1 d_head"],
    ) -> tuple[
        Float[Tensor, "batch kv_head key d_head"], Float[Tensor, "batch kv_head key d_head"]
    ]:
        """Put a layer's new key and value in their place, and return the whole window."""
        keys, values = self._kv[layer, 0], self._kv[layer, 1]
        return keys.index_copy_(2, self.at, k), values.index_copy_(2, self.at, v)
