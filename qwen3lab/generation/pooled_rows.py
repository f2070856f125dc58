"""The rows of a `RowPool`: what they follow, what they have written, and a step of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from qwen3lab.generation.decoding import DecodingStep, Guide
from qwen3lab.model.kv_cache import KVCache


@dataclass(eq=False)
class Past:
    """Tokens that precede those of one row or of several, and that are read only once.

    Attributes:
        token_ids: from the first token of the text.
        cache: of one row, which begins with these tokens; None until they are read, and after the
            last row has followed.
        n_waiting: rows that follow and have not joined yet.
    """

    token_ids: Sequence[int]
    cache: KVCache | None = None
    n_waiting: int = 1


@dataclass(eq=False)
class PooledRow:
    """One row to decode.

    Attributes:
        number: of the row among all rows, for the caller.
        token_ids: tokens to read before the first one is drawn, at least one.
        guide: ends the row, or inserts tokens.
        stream: the row's random numbers.
        past: what precedes `token_ids`.
        written: sampled and inserted tokens.
        ended: True after the guide has ended the row.
    """

    number: int
    token_ids: Sequence[int]
    guide: Guide
    stream: torch.Generator
    past: Past | None = None
    written: list[int] = field(default_factory=list)
    ended: bool = False

    @property
    def text(self) -> list[int]:
        """All tokens so far."""
        return [*(self.past.token_ids if self.past else ()), *self.token_ids, *self.written]


@dataclass(frozen=True)
class PoolStep:
    """One new token for each row of a pass.

    Attributes:
        rows: the rows, in the order of the values.
        chosen: their tokens; all are live.
    """

    rows: tuple[PooledRow, ...]
    chosen: DecodingStep

    @property
    def ended(self) -> list[PooledRow]:
        """The rows that end with this token."""
        return [row for row in self.rows if row.ended]


def rows_of(
    prompts: Sequence[Sequence[int]],
    guides: Sequence[Guide],
    streams: Sequence[torch.Generator],
    *,
    shared: Iterable[tuple[int, Sequence[int]]],
) -> list[PooledRow]:
    """Rows to decode; those that share a prefix follow each other.

    Args:
        prompts: token ids of each row.
        guides: one per row.
        streams: one per row.
        shared: from `shared_prefixes`: number of shared tokens, and the rows that share them.
    """
    rows = []
    for n, members in shared:
        past = Past(list(prompts[members[0]][:n]), n_waiting=len(members)) if n else None
        rows += [PooledRow(i, list(prompts[i][n:]), guides[i], streams[i], past) for i in members]
    return rows
