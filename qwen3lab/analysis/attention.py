"""Where every head looks, measured over a recording of any length.

Patterns are rendered a block of queries at a time, and only sums are kept: memory is linear in
the tokens, where the patterns themselves would grow with their square.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.recording import Recording

if TYPE_CHECKING:
    import pandas

BLOCK = 256
"""Queries at a time."""

PATIENCE = 1.0
"""Seconds before a progress bar appears."""

SPECIAL = re.compile(r"<\|.*\|>|</?think>")
CLEAR, WEAK = 0.5, 0.25
"""How far above uniform attention a share is where a kind is clear, and where it shows."""

BROAD = 0.9
KINDS = {
    "first": "sink",
    "itself": "itself",
    "previous": "previous token",
    "duplicate": "duplicate token",
    "induction": "induction",
}


@dataclass(frozen=True)
class HeadScores:
    """Where each head looks: shares of its attention, means over the queries.

    Attributes:
        layers: of the model; the first axis of all that follows.
        entropy: of a query's distribution over keys, nats.
        relative_entropy: the same over its maximum, the logarithm of the number of keys; queries
            with one key are left out.
        distance: tokens between query and key, weighed by attention.
        first: share on the first token.
        strongest: of the first half of the tokens, the one that draws most attention.
        drawn: the share that it draws, mean over the queries that see it.
        itself: share on the query's own token.
        previous: on the token before.
        duplicate: on earlier occurrences of the same token.
        induction: on the tokens after those.
        special: on tokens that structure a chat, such as `<|im_start|>` and `<think>`.
        uniform: what a head that looks at all keys alike would have, for some of the shares.
    """

    layers: tuple[int, ...]
    entropy: Float[Tensor, "layer head"]
    relative_entropy: Float[Tensor, "layer head"]
    distance: Float[Tensor, "layer head"]
    first: Float[Tensor, "layer head"]
    strongest: Int[Tensor, "layer head"]
    drawn: Float[Tensor, "layer head"]
    itself: Float[Tensor, "layer head"]
    previous: Float[Tensor, "layer head"]
    duplicate: Float[Tensor, "layer head"]
    induction: Float[Tensor, "layer head"]
    special: Float[Tensor, "layer head"]
    uniform: Mapping[str, float]

    def kinds(self) -> list[list[tuple[str, float]]]:
        """The likely kind of each head by layer, and how sure that is, from 0 to 1.

        The kind whose share is most above what uniform attention would give, as a part of what
        it could be above it. Below `WEAK` a head is "mixed", or "broad" if its relative entropy
        is above 0.9. It says where a head looks on this text, and not what for.
        """
        excess = torch.stack(
            [
                (getattr(self, name) - self.uniform[name]) / (1 - self.uniform[name])
                for name in KINDS
            ]
        )
        best, names = excess.max(dim=0), list(KINDS)
        rows = zip(
            best.indices.tolist(),
            best.values.tolist(),
            (self.relative_entropy > BROAD).tolist(),
            strict=True,
        )
        return [
            [_named(names[place], sure, broad) for place, sure, broad in zip(*row, strict=True)]
            for row in rows
        ]

    def to_pandas(self) -> "pandas.DataFrame":
        """A table of all heads with their scores, likely kind, and how sure that is."""
        import pandas

        n_layers, n_heads = self.entropy.shape
        kinds = [kind for row in self.kinds() for kind in row]
        apart = ("layers", "uniform")
        scores = {
            name: getattr(self, name).flatten().tolist()
            for name in self.__dataclass_fields__
            if name not in apart
        }
        return pandas.DataFrame(
            {
                "layer": [layer for layer in self.layers for _ in range(n_heads)],
                "head": list(range(n_heads)) * n_layers,
                "kind": [kind for kind, _ in kinds],
                "above_uniform": [above for _, above in kinds],
                "sure": [_sure(above) for _, above in kinds],
                **scores,
            }
        )


def head_scores(
    recording: Recording,
    *,
    block: int = BLOCK,
    progress: bool = True,
    on_block: Callable[[int, int], None] | None = None,
) -> HeadScores:
    """Measure where every head looks.

    The shares on previous tokens, duplicates and induction targets are those of TransformerLens'
    `detect_head` with `error_measure="mul"`, nothing left out.

    Args:
        recording: with attention.
        block: queries at a time; what comes out is the same.
        progress: show a progress bar, if it takes longer than a moment.
        on_block: called with the blocks of queries that are done and with all of them, over
            all layers; what it raises ends the work.

    Raises:
        RecordingError: attention was not recorded.
        ValueError: fewer than two tokens.
    """
    n = len(recording)
    if n < 2:
        raise ValueError(f"the recording has {n} token: expected two or more")
    layers = recording.attention.some_layers
    special = torch.tensor([bool(SPECIAL.fullmatch(token)) for token in recording.tokens])
    sums = [_Sums(special, recording.config.n_heads) for _ in layers]
    starts = range(0, n, block)
    bar = tqdm(total=len(starts) * len(layers), disable=not progress, delay=PATIENCE, leave=False)
    with bar:
        for place, start in enumerate(starts):
            rows = slice(start, min(start + block, n))
            wanted = targets(recording.token_ids, start, rows.stop - start)
            for row, (layer, kept) in enumerate(zip(layers, sums, strict=True), 1):
                kept.add(start, recording.attention.pattern(layer, queries=rows), *wanted)
                bar.update()
                if on_block is not None:
                    on_block(place * len(layers) + row, len(starts) * len(layers))
    means = [kept.means() for kept in sums]
    stacked = {name: torch.stack([mean[name] for mean in means]) for name in means[0]}
    uniform = _uniform(recording.token_ids, block)
    return HeadScores(layers=layers, **stacked, uniform=uniform)


def key_mass(recording: Recording, *, block: int = BLOCK) -> Float[Tensor, "layer head key"]:
    """The attention that each token draws: mean over the queries that see it.

    An attention sink (arXiv 2309.17453) stands out here whatever its place.

    Args:
        recording: with attention.
        block: queries at a time.

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
    return torch.stack(rows)


def rollout(
    recording: Recording, queries: Sequence[int], *, block: int = BLOCK
) -> Float[Tensor, "query key"]:
    """How much of each token is mixed into these positions over all layers.

    Heads are averaged, and the residual stream counts for half: in every layer
    `0.5 * pattern + 0.5 * identity` (attention rollout, Abnar and Zuidema, arXiv 2005.00928,
    section 3). It follows the patterns alone, and knows nothing of what they move. The product
    is made from the last layer down, for these queries only, so that no square is kept.

    Args:
        recording: with the attention of every layer.
        queries: positions.
        block: queries at a time.

    Raises:
        RecordingError: attention was not recorded in every layer.
        ValueError: no position, or one that is not there.
    """
    n = len(recording)
    if not queries or not all(-n <= query < n for query in queries):
        raise ValueError(f"queries are {list(queries)}: expected positions from 0 to {n - 1}")
    mixed = _one_hot(list(queries), n)
    for layer in range(recording.config.n_layers - 1, -1, -1):
        passed = torch.zeros_like(mixed)
        for start, pattern in recording.attention.blocks(layer, size=block):
            rows = mixed[:, start : start + pattern.shape[1]]
            passed += rows @ pattern.mean(dim=0)
        mixed = 0.5 * passed + 0.5 * mixed
    return mixed


def likeness(recording: Recording, *, block: int = BLOCK) -> Float[Tensor, "layer head other"]:
    """How alike the patterns of a layer's heads are: cosine of the patterns, as long vectors.

    Heads that share a key/value head see the same keys; whether they look at the same tokens
    as well is what this shows.

    Args:
        recording: with attention.
        block: queries at a time.

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
    return torch.stack(rows)


def targets(
    token_ids: Int[Tensor, " token"], start: int, n_queries: int
) -> tuple[Bool[Tensor, "query token"], Bool[Tensor, "query token"]]:
    """For some queries: the earlier occurrences of their tokens, and the tokens after those."""
    queries = torch.arange(start, start + n_queries)[:, None]
    keys = torch.arange(len(token_ids))[None]
    duplicate = (token_ids[start : start + n_queries, None] == token_ids[None]) & (keys < queries)
    after = torch.zeros_like(duplicate)
    after[:, 1:] = duplicate[:, :-1]
    return duplicate, after


class _Sums:
    """Sums over the queries of one layer's patterns."""

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
        """Count a block of queries."""
        queries = torch.arange(start, start + pattern.shape[1])
        self.by_key += pattern.sum(dim=1)
        entropy = torch.special.entr(pattern).sum(dim=-1)
        most = torch.log(queries + 1.0)
        before = _taken(pattern, (queries - 1).clamp(min=0))
        added = {
            "entropy": entropy,
            "relative_entropy": torch.where(most > 0, entropy / most.clamp(min=1e-9), 0.0),
            "itself": _taken(pattern, queries),
            "previous": torch.where(queries > 0, before, 0.0),
            "duplicate": _share(pattern, duplicate),
            "induction": _share(pattern, induction),
        }
        for name, value in added.items():
            self.total[name] += value.double().sum(dim=-1)

    def means(self) -> dict[str, Tensor]:
        """The scores."""
        found = {name: (total / self.n).float() for name, total in self.total.items()}
        found["relative_entropy"] = found["relative_entropy"] * self.n / (self.n - 1)
        keys = torch.arange(self.n, dtype=torch.float64)
        drawn = self.by_key / (self.n - keys)
        # The last tokens are seen by so few that one of them may seem to draw everything.
        lasting = drawn[:, : max(1, self.n // 2)].max(dim=-1)
        return found | {
            # Queries and the keys that they see, both as mean places.
            "distance": (keys.mean() - self.by_key @ keys / self.n).float(),
            "first": (self.by_key[:, 0] / self.n).float(),
            "strongest": lasting.indices,
            "drawn": lasting.values.float(),
            "special": (self.by_key[:, self.special].sum(dim=-1) / self.n).float(),
        }


def _uniform(token_ids: Int[Tensor, " token"], block: int) -> dict[str, float]:
    """The shares of a head that looks at every key alike."""
    n = len(token_ids)
    keys = torch.arange(1, n + 1)
    total = {"first": float((1 / keys).sum()), "itself": float((1 / keys).sum())}
    total["previous"] = float((1 / keys[1:]).sum())
    total["duplicate"] = total["induction"] = 0.0
    for start in range(0, n, block):
        size = min(block, n - start)
        for name, found in zip(
            ("duplicate", "induction"), targets(token_ids, start, size), strict=True
        ):
            total[name] += float((found.sum(dim=1) / keys[start : start + size]).sum())
    return {name: value / n for name, value in total.items()}


def _taken(
    pattern: Float[Tensor, "head query key"], keys: Int[Tensor, " query"]
) -> Float[Tensor, "head query"]:
    """The attention of each query to one key."""
    return pattern.gather(-1, keys[None, :, None].expand(len(pattern), -1, 1))[..., 0]


def _share(
    pattern: Float[Tensor, "head query key"], wanted: Bool[Tensor, "query key"]
) -> Float[Tensor, "head query"]:
    """The attention of each query to the wanted keys."""
    return einsum(pattern, wanted.float(), "head query key, query key -> head query")


def _one_hot(places: Sequence[int], n: int) -> Float[Tensor, "query key"]:
    rows = torch.zeros(len(places), n)
    rows[torch.arange(len(places)), torch.tensor(places)] = 1.0
    return rows


def _named(name: str, sure: float, broad: bool) -> tuple[str, float]:
    if sure >= WEAK:
        return KINDS[name], sure
    return "broad" if broad else "mixed", max(sure, 0.0)


def _sure(above: float) -> str:
    return "clear" if above >= CLEAR else "shows" if above >= WEAK else "unsure"
