"""Generates a batch of replies token by token, and turns each into a `Generation` or a `Chat`."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from qwen3lab.generation.decoding import Decoder, DecodingStep, decode
from qwen3lab.generation.options import OnStep
from qwen3lab.generation.reply import Chat, ChatStep, Generation, split_reply
from qwen3lab.generation.sampling import Sampler
from qwen3lab.generation.thinking_control import (
    Extension,
    ReplyGuide,
    Steering,
    marks_of,
    stop_check,
)
from qwen3lab.hooks.taps import Tap
from qwen3lab.recording.recording import Recording
from qwen3lab.text.chat_template import Message
from qwen3lab.text.tokenizer import TextStream, token_texts


@dataclass
class OpenReply:
    """One reply of a batch during generation."""

    prompt_ids: list[int]
    guide: ReplyGuide
    stream: TextStream
    logprobs: list[float] = field(default_factory=list)
    entropy: list[float] = field(default_factory=list)
    forced: list[bool] = field(default_factory=list)

    @property
    def token_ids(self) -> list[int]:
        """Tokens generated so far."""
        return self.guide.token_ids

    def take(self, step: DecodingStep, index: int) -> ChatStep:
        """Store a decoding step's values for this row and return them as a streamed step."""
        self.logprobs.append(float(step.logprobs[index]))
        self.entropy.append(float(step.entropy[index]))
        self.forced.append(bool(step.forced[index]))
        token_id, marks = self.token_ids[-1], self.guide.marks
        is_mark = token_id in marks.ends or token_id in (marks.think, marks.end_think)
        return ChatStep(
            token_id=token_id,
            text="" if is_mark else self.stream.push(token_id),
            part="thinking" if token_id == marks.end_think else self.guide.part,
            logprob=self.logprobs[-1],
            entropy=self.entropy[-1],
            forced=self.forced[-1],
            row=index,
        )

    def close(self, *, interrupted: bool) -> None:
        """Cut all lists to one length; an interrupt between two appends leaves them unequal."""
        lists = (self.token_ids, self.logprobs, self.entropy, self.forced)
        n_complete = min(map(len, lists))
        for values in lists:
            del values[n_complete:]
        if interrupted and not self.guide.ended:
            self.guide.stop = "interrupted"


def open_generation(tokenizer: Any, ids: list[int], *, stop: Sequence[str]) -> OpenReply:
    """A continuation of plain text; `<think>` and `</think>` are ordinary tokens in it."""
    marks = replace(marks_of(tokenizer), think=None, end_think=None)
    guide = ReplyGuide(marks, stopped=stop_check(tokenizer, stop))
    return OpenReply(ids, guide, TextStream(tokenizer))


def open_chats(
    tokenizer: Any,
    prompts: Sequence[list[int]],
    *,
    budgets: Sequence[int | None],
    stop: Sequence[str],
    extension: Extension | None,
    steering: Steering | None,
) -> list[OpenReply]:
    """Empty replies to rendered conversations.

    Args:
        tokenizer: of the model.
        prompts: token ids of each conversation.
        budgets: maximum number of thinking tokens of each reply; None for no limit.
        stop: strings that end a reply.
        extension: refuses an early `</think>`.
        steering: ends or extends the thinking from another thread.
    """
    marks, stopped = marks_of(tokenizer), stop_check(tokenizer, stop)
    continuation: list[int] = []
    if extension is not None or steering is not None:
        text = (extension or Extension()).text
        continuation = tokenizer.encode(text, add_special_tokens=False)
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
        )
        for ids, budget in zip(prompts, budgets, strict=True)
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
) -> None:
    """Generate all rows until every guide ends its row, `max_new_tokens`, or an interrupt.

    An interrupt by `cancel` or from the keyboard keeps the generated tokens; unfinished rows
    get `stop` "interrupted".
    """
    steps = decode(
        model,
        [row.prompt_ids for row in rows],
        sampler=sampler,
        guides=[row.guide for row in rows],
        max_new_tokens=max_new_tokens,
        tap=tap,
        feed_last=feed_last,
        cancel=cancel,
    )
    interrupted = False
    try:
        for step in steps:
            for index in step.live.nonzero()[:, 0].tolist():
                streamed = rows[index].take(step, index)
                if on_step is not None:
                    on_step(streamed)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        steps.close()
    interrupted = interrupted or (cancel is not None and cancel.is_set())
    for row in rows:
        row.close(interrupted=interrupted and len(row.token_ids) < max_new_tokens)


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
    before = _text(row, tokenizer, row.token_ids[: split.answer[0]])
    rest = _text(row, tokenizer, row.token_ids[split.answer[0] :])
    return Chat(
        **{
            **vars(plain),
            "recording": recording and replace(recording, spans=spans),
            "text": before + _before_stop(rest, stop),
        },
        messages=messages,
        thinking=_text(row, tokenizer, row.token_ids[slice(*split.thinking)]).strip(),
        answer=_before_stop(answer, stop).strip(),
        thinking_tokens=row.guide.n_thinking,
        answer_tokens=split.answer[1] - split.answer[0],
        spans=spans,
    )


def _text(row: OpenReply, tokenizer: Any, token_ids: Sequence[int]) -> str:
    kept = [token for token in token_ids if token not in row.guide.marks.ends]
    return tokenizer.decode(kept, skip_special_tokens=False)


def _before_stop(text: str, stop: Sequence[str]) -> str:
    places = [text.index(mark) for mark in stop if mark in text]
    return text[: min(places, default=len(text))]
