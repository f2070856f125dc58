"""Writes replies for a lab: pooled where nothing is edited, else in batches one after another."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.generation.batch_size import most_replies
from qwen3lab.generation.batch_writer import OpenReply, Recorded, recorded_replies, write
from qwen3lab.generation.decoding import Decoder
from qwen3lab.generation.options import HookNames
from qwen3lab.generation.pooled_writer import write_pooled
from qwen3lab.generation.sampling import Sampler, Sampling
from qwen3lab.hooks.edits import AnyEdits, Edits, listed_edits
from qwen3lab.hooks.points import PATTERN_HOOKS, resolve_hooks
from qwen3lab.hooks.taps import NO_TAP, Chain, Tap
from qwen3lab.interrupts import HeldInterrupts
from qwen3lab.model.transformer import Qwen3
from qwen3lab.recording.non_finite import NonFiniteWarning
from qwen3lab.recording.recorder import ATTENTION, ROUTING, Recorder
from qwen3lab.recording.row_recorder import RowRecorder
from qwen3lab.translation import tr


@dataclass(frozen=True)
class ReplyWriter:
    """Writes replies with a model.

    Attributes:
        model: runs the passes over prompts.
        decoder: runs the decoding steps.
        lock: held while the model runs.
    """

    model: Qwen3
    decoder: Decoder
    lock: threading.RLock

    def write(
        self,
        replies: list[OpenReply],
        sampling: Sampling,
        o: Mapping[str, Any],
        held: HeldInterrupts,
        *,
        batch: int | None = None,
    ) -> list[Recorded | None]:
        """Write the replies; returns what was recorded of each, where that was asked for.

        From the first token on, `held` holds interrupts back but in forward passes, until its
        owner has made the results: an interrupt does not lose what was written.
        """
        begun = [len(reply.token_ids) for reply in replies]  # More than 0 in a branch.
        longest = max(len(reply.all_ids) for reply in replies)
        room = self.model.config.n_ctx - longest
        if o["max_new_tokens"] < 1 or room < 1:
            raise ValueError(
                tr(
                    "no room to write: max_new_tokens is {o}, and the context has {room} of "
                    "{n_ctx} positions left",
                    o=o["max_new_tokens"],
                    room=max(room, 0),
                    n_ctx=self.model.config.n_ctx,
                )
            )
        for reply in replies:  # A short prompt has the room that it has alone.
            left = self.model.config.n_ctx - len(reply.prompt_ids)
            reply.guide.max_new_tokens = min(o["max_new_tokens"], left)
        sampler = Sampler.in_a_row(sampling, len(replies), o["seed"], skip=begun)
        edited = o["edits"] is not None and any(each != {} for each in listed_edits(o["edits"]))
        if len(replies) > 1 and not edited:
            found = self._pooled(replies, sampler, o, held, batch)
        else:
            found = self._in_turn(replies, sampler, o, held, batch or len(replies))
        warning = NonFiniteWarning(self.model.config, len(found))
        for row, kept in enumerate(found):
            if kept is not None:
                warning.look(kept[1], row)
        return found

    def _pooled(
        self,
        replies: Sequence[OpenReply],
        sampler: Sampler,
        o: Mapping[str, Any],
        held: HeldInterrupts,
        batch: int | None,
    ) -> list[Recorded | None]:
        """Write the replies, `batch` at once: one that ends makes room for the next one."""
        recorder = None
        if o["record"] is not False:
            wanted = () if o["record"] is True else o["record"]
            recorder = RowRecorder(recorder_of(self.model.config, wanted, None).names)
        if batch is None:
            batch = most_replies(self.model) if self.model.device.type == "cpu" else len(replies)
        with self.lock:
            return write_pooled(
                self.decoder,
                replies,
                sampler=sampler,
                batch=min(batch, len(replies)),
                reader=self.model,
                recorder=recorder,
                on_step=o["on_step"],
                cancel=o["cancel"],
                held=held,
            )

    def _in_turn(
        self,
        replies: Sequence[OpenReply],
        sampler: Sampler,
        o: Mapping[str, Any],
        held: HeldInterrupts,
        batch: int,
    ) -> list[Recorded | None]:
        """Write the replies in batches, one after another until an interrupt.

        Edits count the positions of their batch: no row can join it later.
        """
        found: list[Recorded | None] = []
        for first in range(0, len(replies), batch):
            part, streams = replies[first : first + batch], sampler.streams[first : first + batch]
            config, lengths = self.model.config, [len(reply.all_ids) for reply in part]
            edits = edits_of_run(config, o["edits"], lengths)
            recorder = None
            if o["record"] is not False:
                wanted = () if o["record"] is True else o["record"]
                recorder = recorder_of(config, wanted, edits)
            with self.lock:
                interrupted = write(
                    self.decoder,
                    part,
                    sampler=Sampler.of(sampler.sampling, streams),
                    first_row=first,
                    max_new_tokens=max(reply.guide.max_new_tokens or 0 for reply in part),
                    tap=chained(edits, recorder),
                    feed_last=recorder is not None,
                    on_step=o["on_step"],
                    cancel=o["cancel"],
                    held=held,
                )
                if recorder is not None:
                    # Inside of the lock: the next reply's captured steps use the same memory.
                    recorder.wait()
            found += recorded_replies(recorder, part) if recorder else [None] * len(part)
            if interrupted:
                break
        for reply in replies[len(found) :]:
            reply.guide.stop = "interrupted"
        return found + [None] * (len(replies) - len(found))


def edits_of_run(
    config: Qwen3Config, edits: AnyEdits | None, lengths: Sequence[int]
) -> Edits | None:
    """The edits of one run of prompts of these lengths."""
    padding = [max(lengths) - length for length in lengths]
    given = [each for each in listed_edits(edits) if each != {}] if edits is not None else []
    return Edits(given, config, padding=padding) if given else None


def recorder_of(
    config: Qwen3Config,
    capture: HookNames,
    edits: Edits | None,
    dtype: torch.dtype | None = None,
    *,
    attention: bool = True,
) -> Recorder:
    """A recorder of attention (if it is wanted), routing and the hooks in `capture`.

    Where an edit changes scores or pattern, the pattern itself is kept: it cannot be rendered
    from queries and keys.
    """
    edited = edits.edits if edits else ()
    layers = {name.split(".")[1] for name in edited if name.endswith(PATTERN_HOOKS)}
    names = [*(ROUTING if config.is_moe else ()), *listed_names(capture)]
    if attention:
        names += [*ATTENTION, *(f"blocks.{layer}.attn.hook_pattern" for layer in layers)]
    return Recorder(resolve_hooks(names, config), dtype=dtype)


def listed_names(capture: HookNames) -> list[str]:
    """One or several hook names as a list."""
    return [capture] if isinstance(capture, str) else list(capture)


def chained(*taps: Tap | None) -> Tap:
    """The given taps as one; a single tap is returned unwrapped, as decoders inspect it."""
    given = [tap for tap in taps if tap]
    if len(given) == 1:
        return given[0]
    return Chain(*given) if given else NO_TAP
