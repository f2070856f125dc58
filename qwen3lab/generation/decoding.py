"""The decoding loop, which yields one step at a time.

The loop runs many prompts at once, padded on the left. It knows token ids only; what ends a
prompt's reply, or inserts tokens into it, is a `Guide`.
"""

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.errors import ChatError
from qwen3lab.generation.non_finite import refuse_non_finite
from qwen3lab.generation.sampling import Sampler
from qwen3lab.hooks.taps import NO_TAP, Tap
from qwen3lab.model.batching import pad_left
from qwen3lab.model.kv_cache import KVCache


@runtime_checkable
class Decoder(Protocol):
    """What runs the passes: the model itself, or a decoder that captures or compiles its steps."""

    @property
    def device(self) -> torch.device:
        """Where the passes run."""
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
        """Logits of the next token, as `Qwen3.forward` gives them."""
        ...


AFTER_BLOCKS = ("ln_final.hook_scale", "ln_final.hook_normalized", "hook_unembed")
"""Hooks that see a prompt's last position alone, unless they are asked for."""


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
class DecodingStep:
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

    Raises:
        ChatError: a guide inserts a token that the model does not have.
        NonFiniteError: logits are NaN or infinite; the message names the first such activation.
    """
    texts = [list(prompt) for prompt in prompts]
    ids, mask = pad_left(prompts, model.device)
    room = min(ids.shape[1] + max_new_tokens, 4096)
    if cache is None:
        cache = model.new_cache(batch=len(prompts), capacity=room)
    logits = _next_logits(model, ids, mask, cache, tap)
    live = torch.tensor([len(prompt) > 0 for prompt in prompts])
    for left in range(max_new_tokens, 0, -1):
        step, ids = _choose(logits, sampler, guides, live)
        refuse_non_finite(model, texts, step.entropy.isnan() & live)
        rows = live.nonzero()[:, 0].tolist()
        for row in rows:
            texts[row].append(int(step.token_ids[row]))
        done = [row for row in rows if guides[row].take(texts[row][-1])]
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
    model: Decoder,
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
) -> tuple[DecodingStep, Int[Tensor, " batch"]]:
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
            if token >= logits.shape[-1]:
                raise ChatError(
                    f"token {token}, which the thinking budget inserts, does not exist: the model "
                    f"has tokens 0 to {logits.shape[-1] - 1}, so its tokenizer is of another model"
                )
            chosen[row] = token
            own[row] = logprobs[row, token].cpu()
    if bool(forced.any()):
        drawn = chosen.to(drawn.device, non_blocking=drawn.is_cuda)
    return DecodingStep(chosen, own, entropy, forced, live), drawn
