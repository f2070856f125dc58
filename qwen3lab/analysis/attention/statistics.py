"""Attention statistics over all heads of a recording, computed in blocks of queries."""

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.arguments import Count, checked
from qwen3lab.recording.labels import LabelledTensor, Labels, labelled
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import later

BLOCK = 256
"""Queries per block."""


@checked
def key_mass(
    recording: Recording, *, block: Count = BLOCK
) -> Float[LabelledTensor, "layer head key"]:
    """The attention that each key token receives: mean over the queries that can see it.

    An attention sink (arXiv 2309.17453) at any position has a high value.

    Args:
        recording: with attention.
        block: queries per block.

    Raises:
        RecordingError: attention was not recorded.
    """
    n = len(recording)
    seen_by = torch.arange(n, 0, -1)
    rows = []
    for layer in recording.attention.some_layers:
        total = torch.zeros(recording.config.n_heads, n)
        for _, pattern in recording.attention.blocks(layer, size=block):
            total += pattern.sum(dim=1)
        rows.append(total / seen_by)
    return _of_layers(
        torch.stack(rows), recording, later("attention received"), "layer", "head", "key"
    )


@checked
def likeness(
    recording: Recording, *, block: Count = BLOCK
) -> Float[LabelledTensor, "layer head other"]:
    """Similarity of a layer's heads: cosine of their patterns, flattened to vectors.

    Heads that share a key/value head have the same keys. A high cosine shows that they also
    attend to the same tokens.

    Args:
        recording: with attention.
        block: queries per block.

    Raises:
        RecordingError: attention was not recorded.
    """
    rows = []
    for layer in recording.attention.some_layers:
        gram = torch.zeros(recording.config.n_heads, recording.config.n_heads)
        for _, pattern in recording.attention.blocks(layer, size=block):
            flat = pattern.flatten(1)
            gram += flat @ flat.T
        length = gram.diagonal().sqrt()
        rows.append(gram / (length[:, None] * length[None]))
    return _of_layers(
        torch.stack(rows), recording, later("likeness of heads"), "layer", "head", "other"
    )


@checked
def targets(
    token_ids: Int[Tensor, " token"], start: int, n_queries: int
) -> tuple[Bool[Tensor, "query token"], Bool[Tensor, "query token"]]:
    """Duplicate and induction targets of a block of queries.

    Returns:
        True at earlier occurrences of the query's token, and at the tokens after them.
    """
    queries = torch.arange(start, start + n_queries)[:, None]
    keys = torch.arange(len(token_ids))[None]
    duplicate = (token_ids[start : start + n_queries, None] == token_ids[None]) & (keys < queries)
    after = torch.zeros_like(duplicate)
    after[:, 1:] = duplicate[:, :-1]
    return duplicate, after


class _Sums:
    """Running sums over the queries of one layer's patterns."""

    def __init__(self, special: Bool[Tensor, " token"], n_heads: int) -> None:
        self.special, self.n = special, len(special)
        self.by_key = torch.zeros(n_heads, self.n, dtype=torch.float64)
        names = ("entropy", "relative_entropy", "itself", "previous", "duplicate", "induction")
        self.total = {name: torch.zeros(n_heads, dtype=torch.float64) for name in names}

    def add(
        self,
        start: int,
        pattern: Float[Tensor, "head query key"],
        duplicate: Bool[Tensor, "query key"],
        induction: Bool[Tensor, "query key"],
    ) -> None:
        """Add a block of queries."""
        queries = torch.arange(start, start + pattern.shape[1])
        self.by_key += pattern.sum(dim=1)
        entropy = torch.special.entr(pattern).sum(dim=-1)
        maximum = torch.log(queries + 1.0)
        relative = entropy / maximum.clamp(min=1e-9)
        previous = _at_keys(pattern, (queries - 1).clamp(min=0))
        added = {
            "entropy": entropy,
            "relative_entropy": torch.where(maximum > 0, relative, 0.0),
            "itself": _at_keys(pattern, queries),
            "previous": torch.where(queries > 0, previous, 0.0),
            "duplicate": _share(pattern, duplicate),
            "induction": _share(pattern, induction),
        }
        for name, value in added.items():
            self.total[name] += value.double().sum(dim=-1)

    def means(self) -> dict[str, Tensor]:
        """Means over the queries, by score."""
        means = {name: (total / self.n).float() for name, total in self.total.items()}
        means["relative_entropy"] = means["relative_entropy"] * self.n / (self.n - 1)
        keys = torch.arange(self.n, dtype=torch.float64)
        received = self.by_key / (self.n - keys)
        # Few queries can see the last tokens, so their means are unreliable.
        strongest = received[:, : max(1, self.n // 2)].max(dim=-1)
        return means | {
            # Mean position of the queries minus that of the keys, weighted by attention.
            "distance": (keys.mean() - self.by_key @ keys / self.n).float(),
            "first": (self.by_key[:, 0] / self.n).float(),
            "strongest": strongest.indices,
            "drawn": strongest.values.float(),
            "special": (self.by_key[:, self.special].sum(dim=-1) / self.n).float(),
        }


def _uniform(token_ids: Int[Tensor, " token"], block: int) -> dict[str, float]:
    """The shares of uniform attention."""
    n = len(token_ids)
    keys = torch.arange(1, n + 1)
    total = {"first": float((1 / keys).sum()), "itself": float((1 / keys).sum())}
    total["previous"] = float((1 / keys[1:]).sum())
    total["duplicate"] = total["induction"] = 0.0
    for start in range(0, n, block):
        size = min(block, n - start)
        for name, is_target in zip(
            ("duplicate", "induction"), targets(token_ids, start, size), strict=True
        ):
            total[name] += float((is_target.sum(dim=1) / keys[start : start + size]).sum())
    return {name: value / n for name, value in total.items()}


def _at_keys(
    pattern: Float[Tensor, "head query key"], keys: Int[Tensor, " query"]
) -> Float[Tensor, "head query"]:
    """Attention of each query to its key in `keys`."""
    return pattern.gather(-1, keys[None, :, None].expand(len(pattern), -1, 1))[..., 0]


def _share(
    pattern: Float[Tensor, "head query key"], wanted: Bool[Tensor, "query key"]
) -> Float[Tensor, "head query"]:
    """Attention of each query to its `wanted` keys."""
    return einsum(pattern, wanted.float(), "head query key, query key -> head query")


def _of_layers(values: Tensor, recording: Recording, what: str, *axes: str) -> LabelledTensor:
    layers, tokens = recording.attention.layers, tuple(recording.tokens)
    return labelled(values, Labels(what, axes, layers, None, tokens, recording.model_name))
