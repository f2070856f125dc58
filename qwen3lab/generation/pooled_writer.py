"""Generates many replies with continuous batching, and streams and records them."""

import threading
from collections.abc import Sequence

from qwen3lab.generation.batch_writer import OpenReply, Recorded
from qwen3lab.generation.decoding import Decoder
from qwen3lab.generation.interruptible import InterruptibleDecoder, Streamed
from qwen3lab.generation.options import OnStep
from qwen3lab.generation.pooled_rows import PooledRow, rows_of
from qwen3lab.generation.row_pool import RowPool
from qwen3lab.generation.sampling import Sampler
from qwen3lab.generation.shared_prefixes import shared_prefixes
from qwen3lab.interrupts import HeldInterrupts
from qwen3lab.recording.row_recorder import RowRecorder


def write_pooled(
    decoder: Decoder,
    rows: Sequence[OpenReply],
    *,
    sampler: Sampler,
    batch: int,
    reader: Decoder,
    recorder: RowRecorder | None,
    on_step: OnStep | None = None,
    cancel: threading.Event | None = None,
    held: HeldInterrupts,
) -> list[Recorded | None]:
    """Generate the replies, `batch` at once, until every guide ends its reply, or an interrupt.

    An interrupt acts as in `write`; replies that have not begun come back without a token.

    Args:
        decoder: runs the decoding steps.
        rows: the replies.
        sampler: has one random stream per reply.
        batch: number of replies that are generated at once.
        reader: runs the passes over prompts: the model itself.
        recorder: gets the activations.
        on_step: called with every token.
        cancel: ends the generation when another thread sets it.
        held: holds interrupts back but in passes and in `on_step`.

    Returns:
        What was recorded of each reply; None where nothing was. After an interrupt, a reply's last
        token may not be in it.
    """
    prompts, guides = [row.prompt_ids for row in rows], [row.guide for row in rows]
    pooled = rows_of(prompts, guides, sampler.streams, shared=shared_prefixes(prompts))
    longest = max(len(row.prompt_ids) + (row.guide.max_new_tokens or 0) for row in rows)
    pool = RowPool(
        InterruptibleDecoder(decoder, held),
        pooled,
        sampling=sampler.sampling,
        batch=batch,
        reader=None if reader is decoder else InterruptibleDecoder(reader, held),
        recorder=recorder,
        cancel=cancel,
        capacity=min(longest, 4096),
    )
    _write_steps(pool, rows, on_step=on_step, held=held)
    if recorder is None:
        return [None] * len(rows)
    recorder.wait()
    return [_recorded(recorder, row) for row in sorted(pooled, key=lambda row: row.number)]


def _recorded(recorder: RowRecorder, row: PooledRow) -> Recorded | None:
    n = recorder.length(row)
    kept = recorder.taken(row) if row.written else None
    return None if kept is None else (row.text[:n], kept)


def _write_steps(
    pool: RowPool, rows: Sequence[OpenReply], *, on_step: OnStep | None, held: HeldInterrupts
) -> None:
    """Take the steps of a pool, whose rows have the numbers of the replies."""
    shown, interrupted, cancel = Streamed(on_step, held), False, pool.cancel
    steps = pool.steps()
    try:
        held.hold()
        for step in steps:
            last = cancel is not None and cancel.is_set()
            shown.show(
                [
                    rows[row.number].take(step.chosen, index, row=row.number, last=last)
                    for index, row in enumerate(step.rows)
                ]
            )
    except KeyboardInterrupt:
        held.hold()
        interrupted = True
    finally:
        steps.close()
    pool.close()
    interrupted = interrupted or (cancel is not None and cancel.is_set())
    for number, row in enumerate(rows):
        shown.add(row.close(number, interrupted=interrupted))
    shown.show_rest()
