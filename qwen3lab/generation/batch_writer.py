"""Generates a batch of replies token by token, and turns each into a `Generation` or a `Chat`."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from qwen3lab.generation.decoding import Decoder, DecodingStep, decode
from qwen3lab.generation.interruptible import InterruptibleDecoder, Streamed
from qwen3lab.generation.options import OnStep
from qwen3lab.generation.reply import Chat, ChatStep, Generation, split_reply
from qwen3lab.generation.sampling import Sampler
from qwen3lab.generation.thinking_control import (
    Extension,
    Marks,
    ReplyGuide,
    ReplyPart,
    Steering,
    stop_check,
    stop_strings,
)
from qwen3lab.hooks.taps import Tap
from qwen3lab.interrupts import HeldInterrupts
from qwen3lab.recording.recorder import Recorder
from qwen3lab.recording.recording import Recording
from qwen3lab.text.chat_template import Message
from qwen3lab.text.tokenizer import StopFilter, TextStream, encode_text, token_texts

Recorded = tuple[list[int], Mapping[str, Tensor]]
"""Token ids of a reply with its prompt, and their activations by hook name."""


@dataclass
class OpenReply:
    """One reply of a batch during generation."""

    prompt_ids: list[int]
    guide: ReplyGuide
    stream: TextStream
    stop_filter: StopFilter
    logprobs: list[float] = field(default_factory=list)
    entropy: list[float] = field(default_factory=list)
    forced: list[bool] = field(default_factory=list)
    chosen: tuple[int, ...] = ()

    @property
    def token_ids(self) -> list[int]:
        """Tokens generated so far."""
        return self.guide.token_ids

    @property
    def all_ids(self) -> list[int]:
        """Tokens of the prompt, and those generated so far."""
        return [*self.prompt_ids, *self.token_ids]

    def take(
        self, step: DecodingStep, index: int, *, row: int | None = None, last: bool = False
    ) -> ChatStep:
        """Store a decoding step's values for this row and return them as a streamed step.

        Args:
            step: of the batch.
            index: of the row among the step's values.
            row: number of the reply; None if it is the index.
            last: True if no step follows; what the stream holds back is then part of the text.
        """
        logprob, entropy = float(step.logprobs[index]), float(step.entropy[index])
        text, before = self.note(logprob, entropy, bool(step.forced[index]), last=last)
        token_id = self.token_ids[-1]
        # Text that was held back belongs to the answer that a second `<think>` interrupts.
        part = "answer" if text and token_id == self.guide.marks.think else before
        return ChatStep(
            token_id=token_id,
            text=text,
            part=part,
            logprob=self.logprobs[-1],
            entropy=self.entropy[-1],
            forced=self.forced[-1],
            row=index if row is None else row,
        )

    def note(
        self, logprob: float, entropy: float, forced: bool, *, last: bool = False
    ) -> tuple[str, ReplyPart]:
        """Store the values of the guide's latest token; returns the text and its part."""
        self.logprobs.append(logprob)
        self.entropy.append(entropy)
        self.forced.append(forced)
        token_id = self.token_ids[-1]
        part = "thinking" if token_id == self.guide.marks.end_think else self.guide.part
        return self._streamed_text(token_id, part, last=last or self.guide.ended), part

    def _streamed_text(self, token_id: int, part: ReplyPart, *, last: bool) -> str:
        """The text that is certain after this token; stop strings count in the answer only."""
        marks = self.guide.marks
        is_mark = token_id in marks.ends or token_id in (marks.think, marks.end_think)
        text = self.stream.flush() if is_mark else self.stream.push(token_id)
        text += self.stream.flush() if last else ""
        if part == "thinking":
            return self.stop_filter.flush() + text
        text = self.stop_filter.push(text)
        return text + (self.stop_filter.flush() if last and self.guide.stop != "string" else "")

    def close(self, index: int, *, interrupted: bool) -> ChatStep | None:
        """End the reply; returns text that the stream still holds back, as one more step."""
        if interrupted and not self.guide.ended:
            self.guide.stop = "interrupted"
        if not self.token_ids or self.guide.ended:
            return None
        part, text = self.guide.part, self.stream.flush()
        if part == "answer":
            text = self.stop_filter.push(text)
        text += self.stop_filter.flush()
        values = (self.logprobs[-1], self.entropy[-1], self.forced[-1])
        return ChatStep(self.token_ids[-1], text, part, *values, row=index) if text else None


def open_generation(
    tokenizer: Any, marks: Marks, ids: list[int], *, stop: Sequence[str]
) -> OpenReply:
    """A continuation of plain text; `<think>` and `</think>` are ordinary tokens in it."""
    marks = replace(marks, think=None, end_think=None)
    guide = ReplyGuide(marks, stopped=stop_check(tokenizer, stop))
    return OpenReply(ids, guide, TextStream(tokenizer), StopFilter(stop_strings(stop)))


def open_chats(
    tokenizer: Any,
    marks: Marks,
    prompts: Sequence[list[int]],
    *,
    budget: int | None,
    stop: Sequence[str],
    extension: Extension | None,
    steering: Steering | None,
) -> list[OpenReply]:
    """Empty replies to rendered conversations.

    Args:
        tokenizer: of the model.
        marks: structural tokens of the tokenizer.
        prompts: token ids of each conversation.
        budget: maximum number of thinking tokens of each reply; None for no limit.
        stop: strings that end a reply.
        extension: refuses an early `</think>`.
        steering: ends or extends the thinking from another thread.
    """
    stopped = stop_check(tokenizer, stop)
    continuation: list[int] = []
    if extension is not None or steering is not None:
        text = (extension or Extension()).text
        continuation = encode_text(tokenizer, text)
    return [
        OpenReply(
            ids,
            ReplyGuide(
                marks,
                budget=budget,
                stopped=stopped,
                extension=extension,
                continuation=continuation,
                steering=steering,
                prompt_ids=ids,
            ),
            TextStream(tokenizer),
            StopFilter(stop_strings(stop)),
        )
        for ids in prompts
    ]


def write(
    model: Decoder,
    rows: Sequence[OpenReply],
    *,
    sampler: Sampler,
    max_new_tokens: int,
    tap: Tap,
    feed_last: bool,
    on_step: OnStep | None = None,
    cancel: threading.Event | None = None,
    held: HeldInterrupts,
    first_row: int = 0,
) -> bool:
    """Generate all rows until every guide ends its row, `max_new_tokens`, or an interrupt.

    An interrupt by `cancel` or from the keyboard keeps the generated tokens; unfinished rows
    get `stop` "interrupted". One from the keyboard takes effect during a forward pass or a call of
    `on_step`, so that a token is taken with all of its values or not at all; afterwards, `held`
    holds interrupts back. Streamed steps count the rows from `first_row`.

    Returns:
        True after an interrupt, also if it came when all rows had ended.
    """
    steps = decode(
        InterruptibleDecoder(model, held),
        [row.all_ids for row in rows],
        sampler=sampler,
        guides=[row.guide for row in rows],
        max_new_tokens=max_new_tokens,
        tap=tap,
        feed_last=feed_last,
        cancel=cancel,
    )
    shown, interrupted = Streamed(on_step, held), False
    try:
        held.hold()
        for n_steps, step in enumerate(steps, start=1):
            last = n_steps >= max_new_tokens or (cancel is not None and cancel.is_set())
            live = step.live.nonzero()[:, 0].tolist()
            taken = [rows[i].take(step, i, row=first_row + i, last=last) for i in live]
            shown.show(taken)
    except KeyboardInterrupt:
        held.hold()
        interrupted = True
    finally:
        steps.close()
    interrupted = interrupted or (cancel is not None and cancel.is_set())
    for index, row in enumerate(rows):
        cut = interrupted and len(row.token_ids) < max_new_tokens
        shown.add(row.close(first_row + index, interrupted=cut))
    shown.show_rest()
    return interrupted


def recorded_replies(recorder: Recorder, rows: Sequence[OpenReply]) -> list[Recorded | None]:
    """What a recorder has of each row of `write`; empties it.

    After an interrupt, a row's last token may not be recorded; after one during the prompt, nothing
    is.
    """
    if recorder.n_complete == 0:
        return [None] * len(rows)
    longest = max(len(row.prompt_ids) for row in rows)
    spans = []
    for row in rows:
        start = longest - len(row.prompt_ids)
        spans.append((start, min(start + len(row.all_ids), recorder.n_complete)))
    cuts = recorder.cut(spans)
    return [
        (row.all_ids[: end - start], kept)
        for row, (start, end), kept in zip(rows, spans, cuts, strict=True)
    ]


def finish_generation(
    row: OpenReply, tokenizer: Any, recording: Recording | None, stop: Sequence[str]
) -> Generation:
    """The result of a finished row."""
    return Generation(
        prompt_ids=row.prompt_ids,
        token_ids=row.token_ids,
        tokens=token_texts(tokenizer, row.token_ids),
        text=_before_stop(_text(row, tokenizer, row.token_ids), stop),
        stop=row.guide.stop,
        logprobs=torch.tensor(row.logprobs),
        entropy=torch.tensor(row.entropy),
        forced=torch.tensor(row.forced, dtype=torch.bool),
        recording=recording,
    )


def finish_chat(
    row: OpenReply,
    messages: list[Message],
    tokenizer: Any,
    recording: Recording | None,
    stop: Sequence[str],
    *,
    thinking_asked: bool | None,
) -> Chat:
    """The result of a finished reply, split into thinking and answer."""
    plain = finish_generation(row, tokenizer, recording, ())
    split = split_reply(row.token_ids, plain.tokens, row.guide.marks, opened=row.guide.opened)
    n_prompt = len(row.prompt_ids)
    spans = {
        "prompt": (0, n_prompt),
        "thinking": (n_prompt + split.thinking[0], n_prompt + split.thinking[1]),
        "answer": (n_prompt + split.answer[0], n_prompt + split.answer[1]),
    }
    answer = _text(row, tokenizer, row.token_ids[slice(*split.answer)])
    # Stop strings count from the first token of the answer, also in the blank before its text.
    n_before = len(row.token_ids) - len(row.guide.answer_ids)
    before = _text(row, tokenizer, row.token_ids[:n_before])
    rest = _text(row, tokenizer, row.token_ids[n_before:])
    return Chat(
        **{
            **vars(plain),
            "recording": recording and replace(recording, spans=_within(spans, len(recording))),
            "text": before + _before_stop(rest, stop),
        },
        messages=messages,
        thinking=_text(row, tokenizer, row.token_ids[slice(*split.thinking)]).strip(),
        answer=_before_stop(answer, stop).strip(),
        thinking_tokens=row.guide.n_thinking,
        answer_tokens=split.answer[1] - split.answer[0],
        spans=spans,
        thinking_asked=thinking_asked,
        chosen=row.chosen,
    )


def _within(spans: Mapping[str, tuple[int, int]], n: int) -> dict[str, tuple[int, int]]:
    """The spans within the first `n` tokens: an interrupt may leave the last one unrecorded."""
    return {name: (min(first, n), min(end, n)) for name, (first, end) in spans.items()}


def _text(row: OpenReply, tokenizer: Any, token_ids: Sequence[int]) -> str:
    kept = [token for token in token_ids if token not in row.guide.marks.ends]
    return tokenizer.decode(kept, skip_special_tokens=False)


def _before_stop(text: str, stop: Sequence[str]) -> str:
    places = [text.index(mark) for mark in stop if mark in text]
    return text[: min(places, default=len(text))]
