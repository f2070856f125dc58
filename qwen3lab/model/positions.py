"""Positions of the tokens of one pass: rotary angles, padding, and the attention mask."""

import math
from itertools import groupby

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config, Rope
from qwen3lab.model.kv_cache import CacheWindow, KVCache

Rotations = tuple[Float[Tensor, "rows pos 1 d_head"], Float[Tensor, "rows pos 1 d_head"]]
"""Cosine and sine of the angles, the sine with the sign that the other of a pair gets; `rows` is 1
where all prompts have the same positions."""


class Positions:
    """Positions of the tokens of one pass: rotations, padding and attention mask, for all layers.

    Attributes:
        mask: True at real tokens.
        cache: of past positions, if there is one.
        padded: True if a past or new position may be padding.
        segments: numbers the texts that are packed into a row.
    """

    def __init__(
        self,
        mask: Bool[Tensor, "batch pos"],
        cache: KVCache | CacheWindow | None,
        *,
        padded: bool,
        rotations: Rotations,
        segments: Int[Tensor, "batch pos"] | None = None,
        attention_mask: Bool[Tensor, "rows 1 query key"] | None = None,
    ) -> None:
        self.mask, self.cache, self.padded, self.segments = mask, cache, padded, segments
        self.cos, self.sin = rotations
        self._attention_mask = attention_mask
        self._attention_bias: Tensor | None = None
        self._text_lengths: list[int] | None = None

    @classmethod
    def of(
        cls,
        token_ids: Int[Tensor, "batch pos"],
        mask: Bool[Tensor, "batch pos"] | None,
        cache: KVCache | CacheWindow | None,
        config: Qwen3Config,
        segments: Int[Tensor, "batch pos"] | None = None,
    ) -> "Positions":
        """Compute the positions of one pass; padding does not count as a position.

        Raises:
            ValueError: the mask, the segments or the cache do not fit the tokens.
        """
        _check_fit(token_ids, mask, cache, segments)
        assert segments is None or cache is None, "segments are for whole rows"
        real = torch.ones_like(token_ids, dtype=torch.bool) if mask is None else mask
        if isinstance(cache, CacheWindow):
            return cls._in_window(real, cache, config)
        n_past = 0 if cache is None else cache.length
        padded = cache is not None and cache.padded
        if mask is not None and not padded:
            padded = not bool(mask.all())
        if cache is not None:
            cache.reserve(token_ids.shape[1])
        if padded and cache is not None and token_ids.shape[1] == 1:
            indices = cache.mask.sum(dim=1, keepdim=True)
        elif padded:
            every = real if cache is None else torch.cat([cache.mask, real], dim=1)
            indices = (every.cumsum(dim=1) - 1).clamp(min=0)[:, n_past:]
        else:
            end = n_past + token_ids.shape[1]
            indices = torch.arange(n_past, end, device=token_ids.device)[None]
        turned = rotations(indices, config, _inverse_on(indices.device, config))
        return cls(real, cache, padded=padded, rotations=turned, segments=segments)

    @classmethod
    def _in_window(
        cls, real: Bool[Tensor, "batch 1"], window: CacheWindow, config: Qwen3Config
    ) -> "Positions":
        """The position of one new token per row, computed on the device alone."""
        visible, here = window.see(real)
        indices = (visible.sum(dim=1, keepdim=True) - 1).clamp(min=0)
        turned = rotations(indices, config, window.inverse)
        allowed = (visible | here)[:, None, None]
        return cls(real, window, padded=True, rotations=turned, attention_mask=allowed)

    @property
    def needs_no_mask(self) -> bool:
        """True if plain causal attention, or one new token, sees exactly what it may."""
        n_past = self.cache.length if isinstance(self.cache, KVCache) else 0
        plain = not self.padded and self.segments is None
        return plain and (n_past == 0 or self.mask.shape[1] == 1)

    def text_lengths(self) -> list[int]:
        """Lengths of the runs of equal segment numbers, over all rows in order.

        An empty list if there are no segments, or if a number comes back after another one.
        """
        if self._text_lengths is None:
            self._text_lengths = [] if self.segments is None else _run_lengths(self.segments)
        return self._text_lengths

    def attention_mask(self) -> Bool[Tensor, "rows 1 query key"]:
        """True where a query may attend to a key; a padded query attends to itself."""
        if self._attention_mask is None:
            is_step = isinstance(self.cache, KVCache) and self.mask.shape[1] == 1
            self._attention_mask = self._mask_of_step() if is_step else self._mask_of_queries()
        return self._attention_mask

    def _mask_of_step(self) -> Bool[Tensor, "batch 1 1 key"]:
        """The mask of one new token per row, in fewer operations."""
        assert isinstance(self.cache, KVCache)
        return F.pad(self.cache.mask, (0, 1), value=True)[:, None, None]

    def _mask_of_queries(self) -> Bool[Tensor, "batch 1 query key"]:
        n_new, device = self.mask.shape[1], self.mask.device
        real = self.mask
        if isinstance(self.cache, KVCache):
            real = torch.cat([self.cache.mask, self.mask], dim=1)
        n_past = real.shape[1] - n_new
        query = torch.arange(n_past, real.shape[1], device=device)[:, None]
        key = torch.arange(real.shape[1], device=device)[None]
        allowed = (key <= query) & real[:, None] | (key == query)
        if self.segments is not None:
            allowed &= self.segments[:, :, None] == self.segments[:, None]
        return allowed[:, None]

    def attention_bias(self, dtype: torch.dtype) -> Float[Tensor, "rows 1 query key"]:
        """The attention mask to be added to scores: 0 where allowed, else minus infinity."""
        if self._attention_bias is None or self._attention_bias.dtype != dtype:
            zero = torch.zeros((), device=self.mask.device, dtype=dtype)
            self._attention_bias = zero.where(self.attention_mask(), -torch.inf)
        return self._attention_bias

    def rotate(
        self, x: Float[Tensor, "batch pos head d_head"]
    ) -> Float[Tensor, "batch pos head d_head"]:
        """Rotate each pair (i, i + d_head/2) by its angle (RoPE, arXiv 2104.09864)."""
        self.cos, self.sin = self.cos.to(x.dtype), self.sin.to(x.dtype)
        return x * self.cos + x.roll(x.shape[-1] // 2, dims=-1) * self.sin


def _run_lengths(segments: Int[Tensor, "batch pos"]) -> list[int]:
    lengths: list[int] = []
    for row in segments.tolist():
        runs = [(number, len(list(run))) for number, run in groupby(row)]
        if len(runs) > len(set(row)):
            return []
        lengths += [length for _, length in runs]
    return lengths


def _check_fit(
    token_ids: Tensor,
    mask: Tensor | None,
    cache: KVCache | CacheWindow | None,
    segments: Tensor | None,
) -> None:
    """Refuses what would be stretched to the shape of the tokens without a word."""
    is_integer = token_ids.dtype in (torch.int64, torch.int32)
    if token_ids.ndim != 2 or not token_ids.numel() or not is_integer:
        raise ValueError(
            f"the tokens have the shape {tuple(token_ids.shape)} and the dtype {token_ids.dtype}: "
            "expected integers with the axes (batch, pos), and at least one token"
        )
    for name, each in (("mask", mask), ("segments", segments)):
        if each is not None and each.shape != token_ids.shape:
            raise ValueError(
                f"the {name} has the shape {tuple(each.shape)}: expected that of the tokens, "
                f"{tuple(token_ids.shape)}"
            )
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"the mask has the dtype {mask.dtype}: expected bool, True at real tokens")
    if isinstance(cache, KVCache) and cache.batch != len(token_ids):
        raise ValueError(
            f"the cache has {cache.batch} rows and the tokens {len(token_ids)}: expected as many"
        )


def _inverse_on(device: torch.device, config: Qwen3Config) -> Float[Tensor, " pair"]:
    # So small a copy to a GPU goes along with the kernel launches, without a synchronisation.
    inverse = inverse_wavelengths(config.rope, config.d_head)
    return inverse.to(device, non_blocking=device.type == "cuda")


def rotations(
    positions: Int[Tensor, "rows pos"], config: Qwen3Config, inverse: Float[Tensor, " pair"]
) -> Rotations:
    """Cosine and sine of every position's angles, in float32."""
    angles = (positions[..., None].float() * inverse)[:, :, None]
    cos, sin = angles.cos() * config.rope.scale, angles.sin() * config.rope.scale
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)


def inverse_wavelengths(rope: Rope, d_head: int) -> Float[Tensor, " pair"]:
    """Radians per position of each rotated pair; YaRN stretches the slow ones.

    Source: RoPE (arXiv 2104.09864), section 3.2.2; YaRN (arXiv 2309.00071), section 3.2,
    with the rounding of the bounds that `transformers` applies.
    """
    exponents = torch.arange(0, d_head, 2, dtype=torch.int64).float() / d_head
    plain = 1.0 / rope.theta**exponents
    if not rope.is_yarn:
        return plain

    def pair_that_turns(times: float) -> float:
        wavelength = rope.original_n_ctx / (times * 2 * math.pi)
        return d_head * math.log(wavelength) / (2 * math.log(rope.theta))

    low = max(math.floor(pair_that_turns(rope.beta_fast)), 0)
    high = min(math.ceil(pair_that_turns(rope.beta_slow)), d_head - 1)
    ramp = (torch.arange(d_head // 2) - low) / ((high - low) or 1e-3)
    stretched = ramp.clamp(0, 1)
    return plain / rope.factor * stretched + plain * (1 - stretched)
