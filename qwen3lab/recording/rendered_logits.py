"""Logits that are computed from the recorded residual stream where they are read.

The logits of a real vocabulary are the largest part of a recording: 151,936 values a token. A
recording keeps the residual stream after the last block instead, and the model's final norm and
unembedding by reference.
"""

import copy
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils._pytree import tree_map

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.model.normalisation import RMSNorm
from qwen3lab.model.transformer import Qwen3
from qwen3lab.recording.equality import EqualByValue

MAX_KEPT_VOCABULARY = 4096
"""A recording keeps the logits themselves of up to this many words: 16 KiB a token in float32."""
ROWS_AT_ONCE = 64
"""Positions whose logits are computed together; 39 MB in float32 for Qwen3's vocabulary."""


def stream_hook(config: Qwen3Config) -> str:
    """Name of the hook that logits are computed from."""
    return f"blocks.{config.n_layers - 1}.hook_resid_post"


def keeps_logits(config: Qwen3Config) -> bool:
    """True if recordings of a model keep the logits themselves, as the vocabulary is small."""
    return config.d_vocab <= MAX_KEPT_VOCABULARY


def logits_hook(config: Qwen3Config) -> str:
    """Name of the hook to record for the logits: they, or the stream that they come from."""
    return "hook_unembed" if keeps_logits(config) else stream_hook(config)


@runtime_checkable
class HasModel(Protocol):
    """A lab."""

    model: Qwen3


@dataclass(frozen=True, eq=False)
class OutputHead:
    """The final norm and the unembedding of a model; in its dtype, their memory is the model's own.

    Attributes:
        ln_final: the norm.
        unembedding: the matrix after it.
    """

    ln_final: RMSNorm
    unembedding: Float[Tensor, "vocab d_model"]

    @classmethod
    def of(cls, model: Qwen3, dtype: torch.dtype | None = None) -> "OutputHead":
        """The output head of a model; a rounded copy if it is to have another dtype."""
        if dtype in (None, model.dtype):
            return cls(model.ln_final, model.unembedding)
        return cls(copy.deepcopy(model.ln_final).to(dtype), model.unembedding.detach().to(dtype))

    @without_grad
    def logits(self, resid: Float[Tensor, "*any d_model"]) -> Float[Tensor, "*any vocab"]:
        """Logits of a residual stream after the last block, on the CPU, in the model's dtype."""
        stream = resid.to(self.unembedding.device, self.unembedding.dtype)
        return F.linear(self.ln_final(stream), self.unembedding).cpu()

    def __deepcopy__(self, memo: dict[int, Any]) -> "OutputHead":
        return self

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        """Pickled as None: the weights belong to the model."""
        return type(None), ()

    def is_of(self, model: Qwen3) -> bool:
        """True if these are the weights of a model, rounded to the dtype of these."""
        own = OutputHead.of(model, self.unembedding.dtype)
        if self.unembedding.data_ptr() == own.unembedding.data_ptr():
            return True
        return self.fingerprint() == own.fingerprint()

    def fingerprint(self) -> str:
        """A SHA-256 digest of both weights, as hexadecimal text."""
        digest = hashlib.sha256()
        for value in (self.ln_final.weight, self.unembedding):
            for rows in value.detach().split(4096):
                digest.update(rows.contiguous().cpu().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


class RenderedLogits(Tensor):
    """The logits of every position, as a tensor whose values are computed on access.

    Indexing by position computes those positions. Any other operation computes all of them.
    """

    stream: Float[Tensor, "token d_model"]
    head: OutputHead

    @staticmethod
    def __new__(cls, stream: Float[Tensor, "token d_model"], head: OutputHead) -> "RenderedLogits":
        shape = (len(stream), len(head.unembedding))
        self = Tensor._make_wrapper_subclass(cls, shape, dtype=torch.float32)
        self.stream, self.head = stream, head
        return self

    def rendered(self) -> Float[Tensor, "token vocab"]:
        """All logits, as a plain float32 tensor."""
        out = torch.empty(self.shape, dtype=torch.float32)
        for start in range(0, len(self.stream), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            out[rows] = self.head.logits(self.stream[rows])
        return out

    def rows(self, take: Callable[[Tensor], Tensor]) -> Tensor:
        """The logits of the positions that `take` selects from the stream."""
        chosen = take(self.stream)
        flat = RenderedLogits(chosen.reshape(-1, self.stream.shape[-1]), self.head).rendered()
        return flat.reshape(*chosen.shape[:-1], -1)

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self = args[0] if args and isinstance(args[0], cls) else None
        if self is not None and func in _BY_POSITION and _is_first_axis(func, args):
            return self.rows(lambda stream: func(stream, *args[1:], **(kwargs or {})))
        return func(*tree_map(_plain, args), **tree_map(_plain, kwargs or {}))

    def numpy(self, *, force: bool = False) -> Any:
        """All logits as a numpy array."""
        return self.rendered().numpy(force=force)

    def tolist(self) -> list[list[float]]:
        """All logits as lists."""
        return self.rendered().tolist()

    def __array__(self, dtype: Any = None) -> Any:
        return self.rendered().numpy().astype(dtype or "float32", copy=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return self.rendered()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.rendered().__reduce_ex__(protocol)

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"logits of {len(self.stream)} positions, computed on access: index by position"


_BY_POSITION = {
    torch.ops.aten.select.int,
    torch.ops.aten.slice.Tensor,
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_select.default,
}
"""Operations that select positions where they act on the first axis."""


def _is_first_axis(func: Any, args: tuple[Any, ...]) -> bool:
    if func is torch.ops.aten.index.Tensor:
        return len(args[1]) == 1 and args[1][0] is not None
    return (args[1] if len(args) > 1 else 0) in (0, -2)


def _plain(value: Any) -> Any:
    return value.rendered() if isinstance(value, RenderedLogits) else value


@dataclass(frozen=True, eq=False)
class TopTokens(EqualByValue):
    """The most probable next tokens at every position, most probable first.

    Attributes:
        token_ids: ids of the tokens.
        logprobs: their natural log-probabilities.
    """

    token_ids: Int[Tensor, "token k"]
    logprobs: Float[Tensor, "token k"]


def top_tokens(logits: Float[Tensor, "token vocab"], k: int) -> TopTokens:
    """The `k` most probable tokens of every row, computed some rows at a time.

    Raises:
        ValueError: `k` is larger than the vocabulary.
    """
    if k > logits.shape[1]:
        raise ValueError(f"k is {k}, and the vocabulary has {logits.shape[1]} tokens: choose fewer")
    found = [rows.log_softmax(dim=-1).topk(k, dim=-1) for _, rows in _in_blocks(logits)]
    return TopTokens(
        torch.cat([top.indices for top in found]), torch.cat([t.values for t in found])
    )


def next_token_logprobs(
    logits: Float[Tensor, "token vocab"],
    token_ids: Int[Tensor, " token"],
    *,
    after: Int[Tensor, " next_token"] | None = None,
) -> Float[Tensor, " next_token"]:
    """Log-probability of each token but the first, computed some rows at a time.

    Args:
        logits: at every position.
        token_ids: of the text.
        after: positions of the tokens whose following token counts; None for all.
    """
    positions = torch.arange(len(token_ids) - 1) if after is None else after
    losses = [
        F.cross_entropy(logits[rows], token_ids[rows + 1], reduction="none")
        for rows in positions.split(ROWS_AT_ONCE)
        if len(rows)
    ]
    return -torch.cat(losses) if losses else torch.empty(0)


def _in_blocks(
    logits: Float[Tensor, "token vocab"],
) -> Iterator[tuple[int, Float[Tensor, "row vocab"]]]:
    for start in range(0, len(logits), ROWS_AT_ONCE):
        yield start, logits[start : start + ROWS_AT_ONCE]
