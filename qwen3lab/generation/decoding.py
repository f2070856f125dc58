"""The decoding loop, which yields one step at a time.

The loop runs a batch of prompts with left padding. It handles token ids only; a `Guide` for each
row ends the row or inserts tokens into it.
"""

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.device.grad_mode import without_grad
from qwen3lab.errors import ChatError
from qwen3lab.generation.non_finite import refuse_non_finite
from qwen3lab.generation.sampling import Sampler
from qwen3lab.hooks.taps import NO_TAP, Tap
from qwen3lab.model.batching import pad_left
from qwen3lab.model.kv_cache import KVCache
from qwen3lab.translation import tr


@runtime_checkable
class Decoder(Protocol):
    """Runs forward passes: a model, or a decoder with captured or compiled decoding steps."""

    @property
    def device(self) -> torch.device:
        """Device of the forward passes."""
        ...

    def new_cache(self, *, batch: int = 1, capacity: int = 256) -> KVCache:
        """An empty key/value cache for a batch."""
        ...

    def __call__(
        self,
        token_ids: Int[Tensor, "batch pos"],
        *,
        mask: Bool[Tensor, "batch pos"] | None = None,
        cache: KVCache | None = None,
        tap: Tap = NO_TAP,
        last_only: bool = False,
    ) -> Float[Tensor, "batch out vocab"]:
        """Logits of the next token, as `Qwen3.forward` returns them."""
        ...


AFTER_BLOCKS = ("ln_final.hook_scale", "ln_final.hook_normalized", "hook_unembed")
"""Hooks that get the last position only, unless the tap wants one of them."""


@runtime_checkable
class Guide(Protocol):
    """Controls one row of a batch: inserts tokens and ends the row."""

    def next(self, drawn: int) -> int | None:
        """The token to insert in place of the sampled one, or None to keep the sampled one."""
        ...

    def take(self, token_id: int) -> bool:
        """Process a sampled or inserted token; True ends the row."""
        ...


@dataclass(frozen=True)
class DecodingStep:
    """One new token for every live row.

    Attributes:
        token_ids: sampled or inserted tokens; undefined in rows that are not live.
        logprobs: the model's log-probability of each token, nats, before sampling filters.
        entropy: of the model's next-token distribution, nats, before sampling filters.
        forced: True where a guide inserted the token.
        live: True where the row was still generating.
    """

    token_ids: Int[Tensor, " batch"]
    logprobs: Float[Tensor, " batch"]
    entropy: Float[Tensor, " batch"]
    forced: Bool[Tensor, " batch"]
    live: Bool[Tensor, " batch"]


def decode(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    sampler: Sampler,
    guides: Sequence[Guide],
    max_new_tokens: int,
    tap: Tap = NO_TAP,
    feed_last: bool = False,
    cancel: threading.Event | None = None,
    cache: KVCache | None = None,
) -> Generator[DecodingStep, None, None]:
    """Generate for all prompts until every guide ends its row, or `max_new_tokens`.

    Args:
        model: a model, or a decoder with compiled or captured steps.
        prompts: token ids, one list per row; an empty row is never live.
        sampler: draws the tokens; has one random stream per row.
        guides: one per row.
        max_new_tokens: maximum number of steps.
        tap: gets the activations of every pass, first those of the prompts.
        feed_last: also run the last token through the model, so that a recording contains it.
        cancel: an event; when another thread sets it, the loop ends after the current step.
        cache: KV cache with the tokens before the prompts; the prompts and the generated tokens
            are appended. None creates an empty one.

    Raises:
        ChatError: a guide inserts a token that the model does not have.
        NonFiniteError: logits are NaN or infinite; the message names the first such activation.
    """
    texts = [list(prompt) for prompt in prompts]
    ids, mask = pad_left(prompts, model.device)
    room = min(ids.shape[1] + max_new_tokens, 4096)
    if cache is None:
        cache = model.new_cache(batch=len(prompts), capacity=room)
    logits = next_logits(model, ids, mask, cache, tap)
    live = torch.tensor([len(prompt) > 0 for prompt in prompts])
    for left in range(max_new_tokens, 0, -1):
        step, ids = choose(logits, sampler, guides, live)
        refuse_non_finite(model, texts, step.entropy.isnan() & live)
        rows = live.nonzero()[:, 0].tolist()
        for row in rows:
            texts[row].append(int(step.token_ids[row]))
        done = [row for row in rows if guides[row].take(texts[row][-1])]
        yield step
        # No mask if all rows are live: saves a copy to the device.
        fed = None if bool(live.all()) else live[:, None].to(ids.device, non_blocking=ids.is_cuda)
        live = live.clone()
        live[done] = False
        over = left == 1 or not live.any() or (cancel is not None and cancel.is_set())
        if over and not feed_last:
            return
        logits = next_logits(model, ids[:, None], fed, cache, tap)
        if over:
            return


# Grad mode is set per call and not around the generator: it belongs to the thread, and would stay
# off in the caller between two steps.
@without_grad
def next_logits(
    model: Decoder,
    ids: Int[Tensor, "batch pos"],
    mask: Bool[Tensor, "batch pos"] | None,
    cache: KVCache,
    tap: Tap,
) -> Float[Tensor, "batch vocab"]:
    """Logits of the token that follows each row; arguments as in `Decoder.__call__`."""
    return model(ids, mask=mask, cache=cache, tap=tap, last_only=reads_last_only(tap))[:, -1]


def reads_last_only(tap: Tap) -> bool:
    """True if no hook that follows the blocks is wanted, so that one position is unembedded."""
    return not any(map(tap.wants, AFTER_BLOCKS))


@without_grad
def choose(
    logits: Float[Tensor, "batch vocab"],
    sampler: Sampler,
    guides: Sequence[Guide],
    live: Bool[Tensor, " batch"],
) -> tuple[DecodingStep, Int[Tensor, " batch"]]:
    """Sample one token per row and apply insertions; the second value is on the device.

    Tokens, log-probabilities and entropy are copied together: a GPU synchronises once per step.
    """
    drawn = sampler.draw(logits)
    logprobs = logits.float().log_softmax(dim=-1)
    entropy = _entropy(logprobs)
    own = logprobs.gather(-1, drawn[:, None])[:, 0]
    # float32 is exact for every token id, and every device supports it.
    chosen, own, entropy = torch.stack([drawn.float(), own, entropy]).cpu().unbind()
    chosen = chosen.long()
    rows = zip(guides, chosen.tolist(), live.tolist(), strict=True)
    inserted = [guide.next(token) if alive else None for guide, token, alive in rows]
    forced = torch.tensor([token is not None for token in inserted])
    for row, token in enumerate(inserted):
        if token is not None:
            if token >= logits.shape[-1]:
                raise ChatError(
                    tr(
                        "token {token}, which the thinking budget inserts, does not exist: the "
                        "model has tokens 0 to {last}, so its tokenizer is of another model",
                        token=token,
                        last=logits.shape[-1] - 1,
                    )
                )
            chosen[row] = token
            own[row] = logprobs[row, token].cpu()
    if bool(forced.any()):
        drawn = chosen.to(drawn.device, non_blocking=drawn.is_cuda)
    return DecodingStep(chosen, own, entropy, forced, live), drawn


def _entropy(logprobs: Float[Tensor, "batch vocab"]) -> Float[Tensor, " batch"]:
    """In nats; `torch.special.entr` would compute the logarithms again, one by one.

    Tokens of probability 0 count as 0, and NaN stays NaN.
    """
    finite = logprobs.clamp(min=torch.finfo(logprobs.dtype).min)
    return -(logprobs.exp() * finite).sum(dim=-1)
