"""From logits to tokens: sampling, and the loop that yields one step at a time.

The loop runs many prompts at once, padded on the left. It knows token ids only; what ends a
prompt's generation, or puts words in its mouth, is a `Guide`.
"""

import math
import secrets
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.cache import KVCache
from qwen3lab.compiled import CompiledModel
from qwen3lab.graphs import GraphedModel
from qwen3lab.hooks import NOTHING, Tap
from qwen3lab.model import Qwen3

Runs = Qwen3 | CompiledModel | GraphedModel
"""What runs the passes."""

AFTER_BLOCKS = ("ln_final.hook_scale", "ln_final.hook_normalized", "hook_unembed")
"""Hooks that see a prompt's last position alone, unless they are asked for."""

TIES = 128
"""Tokens beyond `top_k` that are looked at: those as likely as its last are kept with it."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn; a temperature of 0 takes the most likely one.

    Filters apply in this order, as in `transformers`: temperature, top-k, top-p, min-p.

    Attributes:
        temperature: divides the logits; 0 is greedy.
        top_k: keep the k most likely tokens; None keeps all.
        top_p: keep the smallest set of tokens that reaches this probability.
        min_p: keep tokens at least this share as likely as the most likely one.

    Raises:
        ValueError: a value outside its range; the message gives the range.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}: expected 0 (greedy) or more")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}: expected 1 or more, or None for all tokens")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}: expected a share above 0 and at most 1")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p is {self.min_p}: expected a share from 0 to 1")

    @classmethod
    def greedy(cls) -> "Sampling":
        """The most likely token, always."""
        return cls()

    @classmethod
    def published(cls, *, thinking: bool) -> "Sampling":
        """What Qwen3's model cards recommend for each mode."""
        if thinking:
            return cls(temperature=0.6, top_k=20, top_p=0.95)
        return cls(temperature=0.7, top_k=20, top_p=0.8)

    def probabilities(self, logits: Float[Tensor, "batch vocab"]) -> Float[Tensor, "batch vocab"]:
        """The distribution that is drawn from, in float32; filtered tokens have none of it."""
        chances, token_ids = self.candidates(logits)
        return torch.zeros_like(logits, dtype=torch.float32).scatter(-1, token_ids, chances)

    def candidates(
        self, logits: Float[Tensor, "batch vocab"]
    ) -> tuple[Float[Tensor, "batch candidate"], Int[Tensor, "batch candidate"]]:
        """Chances and ids of the tokens that may be drawn, the most likely first.

        With `top_k` only about so many are looked at, which takes far less time than to put a
        whole vocabulary in order.
        """
        if self.temperature == 0:
            best = logits.argmax(dim=-1, keepdim=True)
            return torch.ones_like(best, dtype=torch.float32), best
        scaled, n = logits.float() / self.temperature, logits.shape[-1]
        if self.top_k is None or self.top_k >= n:
            scaled, token_ids = scaled.sort(dim=-1, descending=True)
        else:
            scaled, token_ids = scaled.topk(min(self.top_k + TIES, n), dim=-1)
            weakest = scaled[:, self.top_k - 1, None]
            scaled = scaled.masked_fill(scaled < weakest, -torch.inf)
        chances = scaled.softmax(dim=-1)
        if self.top_p < 1:
            before = chances.cumsum(dim=-1) - chances
            chances = chances.masked_fill(before >= self.top_p, 0)
        if self.min_p > 0:
            chances = chances.where(chances >= self.min_p * chances[:, :1], 0)
        return chances / chances.sum(dim=-1, keepdim=True), token_ids


class Sampler:
    """Draws tokens; each row of a batch has its own stream of chance.

    So a row draws the same tokens whatever else runs beside it. Every step takes one number
    from the stream, also where a guide then inserts a token: what is drawn at a step depends
    on the seed and the step's number alone.

    Args:
        sampling: how tokens are drawn.
        seeds: of the rows' streams.
        skip: numbers that each stream has given away already; none if left out.
    """

    def __init__(
        self, sampling: Sampling, *, seeds: Sequence[int], skip: Sequence[int] = ()
    ) -> None:
        self.sampling = sampling
        self._streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        if sampling.temperature > 0:
            for stream, used in zip(self._streams, skip, strict=False):
                for _ in range(used):
                    torch.rand((), generator=stream)

    @classmethod
    def in_a_row(cls, sampling: Sampling, rows: int, seed: int | None = None) -> "Sampler":
        """Row `i` is seeded with `seed + i`; without a seed, by chance."""
        first = secrets.randbits(62) if seed is None else seed
        return cls(sampling, seeds=range(first, first + rows))

    def draw(self, logits: Float[Tensor, "batch vocab"]) -> Int[Tensor, " batch"]:
        """One token per row."""
        if self.sampling.temperature == 0:
            return logits.argmax(dim=-1)
        chances, token_ids = self.sampling.candidates(logits)
        reach = chances.cumsum(dim=-1)
        luck = torch.stack([torch.rand((), generator=stream) for stream in self._streams])
        # Never beyond the last token that has any probability, whatever rounding does.
        last = (chances > 0).sum(dim=-1, keepdim=True) - 1
        luck = luck.to(reach, non_blocking=reach.is_cuda)
        hit = (reach <= luck[:, None] * reach[:, -1:]).sum(dim=-1, keepdim=True)
        return token_ids.gather(-1, hit.minimum(last))[:, 0]


@runtime_checkable
class Guide(Protocol):
    """What accompanies one row: it may insert tokens, and it says when the row is done."""

    def next(self, drawn: int) -> int | None:
        """The token to write in place of the one that was drawn, or None to keep that one."""
        ...

    def take(self, token_id: int) -> bool:
        """See a token that was drawn or inserted; True ends the row."""
        ...


@dataclass(frozen=True)
class Step:
    """One more token for every live row.

    Attributes:
        token_ids: what was drawn or inserted; meaningless where the row is not live.
        logprobs: the model's own log-probability of it, nats, before any filter.
        entropy: of the model's own next-token distribution, nats, before any filter.
        forced: True where a guide inserted the token.
        live: True where the row was still generating.
    """

    token_ids: Int[Tensor, " batch"]
    logprobs: Float[Tensor, " batch"]
    entropy: Float[Tensor, " batch"]
    forced: Bool[Tensor, " batch"]
    live: Bool[Tensor, " batch"]


def pad_left(
    prompts: Sequence[Sequence[int]], device: torch.device | str = "cpu"
) -> tuple[Int[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    """Prompts as one tensor, short ones padded on the left, and a mask of the real tokens."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[0] * (longest - len(p)) + list(p) for p in prompts], device=device)
    lengths = torch.tensor([len(p) for p in prompts], device=device)
    return ids, torch.arange(longest, device=device) >= longest - lengths[:, None]


def decode(
    model: Runs,
    prompts: Sequence[Sequence[int]],
    *,
    sampler: Sampler,
    guides: Sequence[Guide],
    max_new_tokens: int,
    tap: Tap = NOTHING,
    feed_last: bool = False,
    cancel: threading.Event | None = None,
    cache: KVCache | None = None,
) -> Generator[Step, None, None]:
    """Generate for all prompts until every guide is done or the length is reached.

    Args:
        model: the model itself, or what runs its steps compiled or captured.
        prompts: token ids, one list per row; a row without any takes no part.
        sampler: draws the tokens; made for as many rows.
        guides: one per row.
        max_new_tokens: steps at most.
        tap: is handed the activations of every pass, prompt first.
        feed_last: also run the last token through the model, so that a recording covers it.
        cancel: set from another thread, it ends the loop after the step in hand.
        cache: what stands before the prompts, and where they and what is written are kept; a
            new one if None.
    """
    ids, mask = pad_left(prompts, model.device)
    room = min(ids.shape[1] + max_new_tokens, 4096)
    if cache is None:
        cache = model.new_cache(batch=len(prompts), capacity=room)
    logits = _next_logits(model, ids, mask, cache, tap)
    live = torch.tensor([len(prompt) > 0 for prompt in prompts])
    for left in range(max_new_tokens, 0, -1):
        step, ids = _choose(logits, sampler, guides, live)
        rows = live.nonzero()[:, 0].tolist()
        done = [row for row in rows if guides[row].take(int(step.token_ids[row]))]
        yield step
        # Where all rows are live there is nothing to mask, and no device to ask.
        fed = None if bool(live.all()) else live[:, None].to(ids.device, non_blocking=ids.is_cuda)
        live = live.clone()
        live[done] = False
        over = left == 1 or not live.any() or (cancel is not None and cancel.is_set())
        if over and not feed_last:
            return
        logits = _next_logits(model, ids[:, None], fed, cache, tap)
        if over:
            return


# Grad mode is set per call and not around the generator: it is a property of the thread, and
# must not stay switched off in the caller between two steps.
@torch.no_grad()
def _next_logits(
    model: Runs,
    ids: Int[Tensor, "batch pos"],
    mask: Bool[Tensor, "batch pos"] | None,
    cache: KVCache,
    tap: Tap,
) -> Float[Tensor, "batch vocab"]:
    last_only = not any(map(tap.wants, AFTER_BLOCKS))
    return model(ids, mask=mask, cache=cache, tap=tap, last_only=last_only)[:, -1]


@torch.no_grad()
def _choose(
    logits: Float[Tensor, "batch vocab"],
    sampler: Sampler,
    guides: Sequence[Guide],
    live: Bool[Tensor, " batch"],
) -> tuple[Step, Int[Tensor, " batch"]]:
    """Draw for all rows, and put in what guides insert; gives the tokens on the device, too.

    What the model said is fetched together with what was drawn: a GPU is waited for once.
    """
    drawn = sampler.draw(logits)
    logprobs = logits.float().log_softmax(dim=-1)
    entropy = torch.special.entr(logprobs.exp()).sum(dim=-1)
    own = logprobs.gather(-1, drawn[:, None])[:, 0]
    # As float32, in which every token id is exact, and which every device has.
    chosen, own, entropy = torch.stack([drawn.float(), own, entropy]).cpu().unbind()
    chosen = chosen.long()
    rows = zip(guides, chosen.tolist(), live.tolist(), strict=True)
    inserted = [guide.next(token) if alive else None for guide, token, alive in rows]
    forced = torch.tensor([token is not None for token in inserted])
    for row, token in enumerate(inserted):
        if token is not None:
            chosen[row] = token
            own[row] = logprobs[row, token].cpu()
    if bool(forced.any()):
        drawn = chosen.to(drawn.device, non_blocking=drawn.is_cuda)
    return Step(chosen, own, entropy, forced, live), drawn
