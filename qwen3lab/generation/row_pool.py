"""Continuous batching: a row that ends makes room for the next one.

A `RowPool` decodes any number of rows, at most `batch` of them at once. Rows that have not ended
share each pass; waiting rows are read (prefill) in a pass of their own, at most `batch` ahead, and
put beside the others as soon as one has ended.
Each row has its own random stream, so its tokens do not depend on the rows beside it, but for
rounding.

Source: iteration-level scheduling, Orca (Yu et al., OSDI 2022), section 3.2.
"""

import threading
from collections import deque
from collections.abc import Generator, Iterable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qwen3lab.generation.decoding import Decoder, choose, next_logits
from qwen3lab.generation.non_finite import refuse_non_finite
from qwen3lab.generation.pooled_rows import Past, PooledRow, PoolStep
from qwen3lab.generation.sampling import Sampler, Sampling
from qwen3lab.hooks.taps import NO_TAP, Tap
from qwen3lab.model.batching import pad_left
from qwen3lab.model.kv_cache import KVCache
from qwen3lab.recording.row_recorder import RowRecorder

MAX_READ_TOKENS = 512
"""Prompt tokens, padding included, up to which rows that wait are read together with those that can
join: a longer pass costs more than it saves."""

MIN_TRIMMED = 32
"""Positions of common padding from which on the cache's rows are shifted."""

FIRST_CAPACITY = 256
"""Positions beyond the prompts that the cache allocates at first, where its size may change."""


class RowPool:
    """Decodes rows, at most `batch` at once, until every guide has ended its row.

    Args:
        decoder: runs the decoding steps.
        rows: in the order in which they join; more can be added during the steps.
        sampling: temperature and filters.
        batch: number of rows that are decoded at once.
        reader: runs the passes over prompts, if `decoder` has captured or compiled steps. The
            steps then keep their number of rows; else they run over the rows that have not ended.
        recorder: gets the activations; the last token of a row then runs through the model, too.
        cancel: when another thread sets it, the pool ends after the current step.
        capacity: positions that a cache of fixed steps allocates.
    """

    def __init__(
        self,
        decoder: Decoder,
        rows: Iterable[PooledRow],
        *,
        sampling: Sampling,
        batch: int,
        reader: Decoder | None = None,
        recorder: RowRecorder | None = None,
        cancel: threading.Event | None = None,
        capacity: int = FIRST_CAPACITY,
    ) -> None:
        self.decoder, self.reader = decoder, reader or decoder
        self.is_fixed = reader is not None
        self.sampling, self.batch, self.cancel = sampling, batch, cancel
        self.recorder = recorder
        self.tap: Tap = recorder or NO_TAP
        self.waiting = deque(rows)
        self.live: list[PooledRow] = []
        self._slots: list[int] = []
        self._ready: deque[tuple[PooledRow, KVCache, int, Tensor]] = deque()
        self._capacity = capacity
        self._cache: KVCache | None = None
        self._logits: Tensor | None = None
        self._drawn: Tensor | None = None
        self._is_reading = False

    def steps(self) -> Generator[PoolStep, None, None]:
        """Yields one step after another; between two of them, `add_first` and `taken` work.

        Raises:
            ChatError: a guide inserts a token that the model does not have.
            NonFiniteError: logits are NaN or infinite.
        """
        while True:
            self._admit()
            if not self.live:
                return
            yield self._choose()
            cancelled = self.cancel is not None and self.cancel.is_set()
            if cancelled and self.recorder is None:
                return
            if self.recorder is None:
                self._drawn = self._release(self._drawn)
            if self.live:
                self._advance()
            if cancelled:
                return
            if self.recorder is not None:
                self._logits = self._release(self._logits)

    def add_first(self, rows: Sequence[PooledRow]) -> None:
        """Let rows join before those that wait."""
        self.waiting.extendleft(reversed(rows))

    def taken(self, row: PooledRow) -> KVCache:
        """A copy of the cached positions of a row of the last step: all tokens but the last."""
        return self._own_cache.taken(self._slots[self.live.index(row)])

    def close(self) -> None:
        """Give the recorder what it has recorded since the rows last changed."""
        if self.recorder is not None and self._is_reading:
            self.recorder.drop()  # Of a pass over prompts that was interrupted.
        self._split()

    @property
    def _own_cache(self) -> KVCache:
        assert self._cache is not None, "no row has been read yet"
        return self._cache

    def _admit(self) -> None:
        """Let rows join until the batch is full."""
        if not self.live and not self._ready and self._begin():
            return
        while len(self.live) < self.batch and (self._ready or self.waiting):
            if not self._ready:
                self._read_ahead()
            self._join()

    def _begin(self) -> bool:
        """Read the first rows where they stay; False where a batch of fixed size is not full."""
        n = min(self.batch, len(self.waiting))
        if n == 0 or (self.is_fixed and n < self.batch):
            return False
        rows = [self.waiting.popleft() for _ in range(n)]
        if self._cache is None:
            self._cache = self._new_cache(rows)
        self._logits = self._read(rows, self._cache)
        self.live, self._slots = rows, list(range(n))
        return True

    def _read_ahead(self) -> None:
        """Read waiting rows in a cache of their own: those that can join now, and some more.

        A pass over one short prompt takes about as long as a pass over several.
        """
        n, longest = 0, 0
        free, most = self.batch - len(self.live), min(self.batch, len(self.waiting))
        for row in list(self.waiting)[:most]:
            longest = max(longest, len(row.token_ids))
            if n >= free and (n + 1) * longest > MAX_READ_TOKENS:
                break
            n += 1
        rows = [self.waiting.popleft() for _ in range(n)]
        if self._cache is None:
            self._cache = self._new_cache(rows)
        cache = self._cache_beside(rows)
        logits = self._read(rows, cache)
        self._ready.extend((row, cache, index, logits[index]) for index, row in enumerate(rows))

    def _join(self) -> None:
        """Put rows that have been read beside the live ones, as many as there is room for."""
        n = min(self.batch - len(self.live), len(self._ready))
        joining = [self._ready.popleft() for _ in range(n)]
        self._split()
        self._slots += self._put([(row, cache, index) for row, cache, index, _ in joining])
        logits = torch.stack([each for *_, each in joining])
        kept = self._logits if self.live else None
        self._logits = logits if kept is None else torch.cat([kept, logits])
        self.live += [row for row, *_ in joining]

    def _new_cache(self, rows: Sequence[PooledRow]) -> KVCache:
        if self.is_fixed:
            return self.decoder.new_cache(batch=self.batch, capacity=self._capacity)
        longest = max(len(row.text) for row in rows)
        return self.reader.new_cache(batch=self.batch, capacity=longest + FIRST_CAPACITY)

    def _cache_beside(self, rows: Sequence[PooledRow]) -> KVCache:
        """A cache for the pass that reads rows while others are live."""
        lengths = [len(row.token_ids) for row in rows]
        before = [len(row.past.token_ids) for row in rows if row.past]
        return self.reader.new_cache(
            batch=len(rows), capacity=max(lengths) + max(before, default=0)
        )

    def _read_past(self, past: Past | None) -> None:
        """Run the tokens that several rows share, the first time that one of them joins."""
        if past is None or past.cache is not None:
            return
        cache = self.reader.new_cache(capacity=len(past.token_ids))
        ids, mask = pad_left([past.token_ids], self.reader.device)
        next_logits(self.reader, ids, mask, cache, self.tap)
        if self.recorder is not None:
            self.recorder.split([past], cache.mask)
        past.cache = cache

    def _read(self, rows: Sequence[PooledRow], cache: KVCache) -> Float[Tensor, "row vocab"]:
        """Run the first tokens of rows in an empty cache."""
        self._split()
        self._is_reading = True
        for row in rows:
            self._read_past(row.past)
        cache.rewind(0)
        cache.padded = False
        cache.use_rows(len(rows))
        cache.widen(max(len(row.past.token_ids) if row.past else 0 for row in rows))
        for index, row in enumerate(rows):
            if row.past is not None and row.past.cache is not None:
                cache.put(index, row.past.cache, 0, len(row.past.token_ids))
        ids, mask = pad_left([row.token_ids for row in rows], self.reader.device)
        logits = next_logits(self.reader, ids, mask, cache, self.tap)
        if self.recorder is not None:
            for row in rows:
                self.recorder.begin(row, after=row.past)
            self.recorder.split(rows, cache.mask, widths=[len(row.token_ids) for row in rows])
        self._is_reading = False
        for row in rows:
            self._forget_past(row.past)
        return logits

    def _forget_past(self, past: Past | None) -> None:
        """Free what a row has followed, if no other row follows it."""
        if past is None:
            return
        past.n_waiting -= 1
        if past.n_waiting == 0:
            past.cache = None
            if self.recorder is not None:
                self.recorder.forget(past)

    def _put(self, joining: Sequence[tuple[PooledRow, KVCache, int]]) -> list[int]:
        """Put rows of other caches into free rows; returns these."""
        cache, n = self._own_cache, len(joining)
        if self.is_fixed:
            free = [slot for slot in range(cache.rows) if slot not in self._slots][:n]
        else:
            free = list(range(len(self.live), len(self.live) + n))
            cache.use_rows(free[-1] + 1)
        cache.widen(max(len(row.text) for row, *_ in joining))
        for slot, (_, source, index) in zip(free, joining, strict=True):
            cache.put(slot, source, index)
        return free

    def _choose(self) -> PoolStep:
        """Draw one token for each live row."""
        assert self._logits is not None, "no row has been read yet"
        sampler = Sampler.of(self.sampling, [row.stream for row in self.live])
        guides = [row.guide for row in self.live]
        every = torch.ones(len(self.live), dtype=torch.bool)
        chosen, self._drawn = choose(self._logits, sampler, guides, every)
        self._refuse(chosen.entropy.isnan())
        for row, token in zip(self.live, chosen.token_ids.tolist(), strict=True):
            row.written.append(token)
            row.ended = row.guide.take(token)
        return PoolStep(tuple(self.live), chosen)

    def _refuse(self, broken: Bool[Tensor, " row"]) -> None:
        """Raise an error for the first row whose logits are not finite, by the row's number."""
        if not bool(broken.any()):
            return
        row = self.live[int(broken.nonzero()[0])]
        texts: list[list[int]] = [[] for _ in range(max(row.number + 1, 2))]
        texts[row.number] = row.text
        refuse_non_finite(self.reader, texts, torch.arange(len(texts)) == row.number)

    def _advance(self) -> None:
        """Run the new token of each live row."""
        ids, cache = self._drawn, self._own_cache
        assert ids is not None, "no token has been drawn yet"
        if cache.length == cache.capacity:
            cache.trim()  # Its memory grows only if a row needs it.
        if self._slots == list(range(cache.batch)):
            self._logits = next_logits(self.decoder, ids[:, None], None, cache, self.tap)
            return
        slots = torch.tensor(self._slots, device=ids.device)
        spread = ids.new_zeros(cache.batch).index_copy(0, slots, ids)
        real = torch.zeros(cache.batch, dtype=torch.bool, device=ids.device)
        real[slots] = True
        logits = next_logits(self.decoder, spread[:, None], real[:, None], cache, self.tap)
        self._logits = logits[slots]

    def _release(self, values: Tensor | None) -> Tensor | None:
        """Free the rows that have ended; returns the `values` of the others, in their new order."""
        ended = [index for index, row in enumerate(self.live) if row.ended]
        if not ended:
            return values
        self._split()
        if self.recorder is not None:
            for index in ended:
                self.recorder.join(self.live[index])
        kept = [index for index, row in enumerate(self.live) if not row.ended]
        cache = self._own_cache
        if self.is_fixed:
            for index in ended:
                cache.vacate(self._slots[index])
        else:
            kept = self._fill_gaps(kept)
        slots = [self._slots[index] for index in kept] if self.is_fixed else range(len(kept))
        self.live, self._slots = [self.live[index] for index in kept], list(slots)
        if kept:
            cache.trim(least=max(MIN_TRIMMED, cache.length // 4))
        else:
            cache.rewind(0)
        order = torch.tensor(kept, dtype=torch.long)
        return values if values is None else values.index_select(0, order.to(values.device))

    def _fill_gaps(self, kept: Sequence[int]) -> list[int]:
        """Move the last rows to the places of those that ended; returns the old index of each."""
        n, cache = len(kept), self._own_cache
        order = list(range(n))
        gaps = [index for index in order if index not in kept]
        for gap, last in zip(gaps, [index for index in kept if index >= n], strict=True):
            cache.move(last, gap)
            order[gap] = last
        if n:
            cache.use_rows(n)
        return order

    def _split(self) -> None:
        """Give each live row its part of what was recorded since the rows last changed."""
        if self.recorder is None or not self.live:
            return
        owners: list[PooledRow | None] = [None] * self._own_cache.batch
        for slot, row in zip(self._slots, self.live, strict=True):
            owners[slot] = row
        self.recorder.split(owners, self._own_cache.mask)
