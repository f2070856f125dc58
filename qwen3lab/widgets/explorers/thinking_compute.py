"""Data of the thinking view's panes, computed from a chat. Draws nothing."""

import html
from bisect import bisect_left
from collections.abc import Collection, Sequence
from typing import Any

from qwen3lab.generation.reply import Chat
from qwen3lab.text.tokenizer import TextStream
from qwen3lab.thinking import Answer, Piece, pieces
from qwen3lab.translation import tr
from qwen3lab.widgets.components.thoughts import Thought
from qwen3lab.widgets.explorers.chat_compute import progress
from qwen3lab.widgets.explorers.comparison import judge
from qwen3lab.widgets.explorers.replies import answer_box, verdict_html
from qwen3lab.widgets.explorers.thinking_state import ThinkingState

MAX_STEPS = 24
"""Largest number of steps of equal length."""

MIN_SENTENCES = 3
"""A thinking with fewer sentences is split into steps of equal length."""

MAX_SENTENCE = 200
"""A thinking whose sentences have more tokens on average is split into steps, too."""


def steps_of(chat: Chat) -> list[Piece]:
    """The thinking as steps: its sentences, or steps of equal length if they are few.

    Empty if the model generated no thinking.
    """
    try:
        sentences = pieces(chat)
    except ValueError:
        return []
    n_tokens = sentences[-1].end - sentences[0].start
    if n_tokens <= MIN_SENTENCES:
        return sentences
    if len(sentences) >= MIN_SENTENCES and n_tokens <= MAX_SENTENCE * len(sentences):
        return sentences
    return pieces(chat, max(1, -(-n_tokens // MAX_STEPS)))


def thoughts_of(chat: Chat, steps: Sequence[Piece], tokenizer: Any) -> list[Thought]:
    """The steps with the text of each token; that of a split character is at its last token.

    Without a tokenizer, as for a reply whose model is not there, each token has its own text.
    """
    n_prompt, inserted = chat.spans["prompt"][1], chat.inserted.tolist()
    stream = TextStream(tokenizer) if tokenizer is not None else None
    thoughts, count = [], 0
    for step in steps:
        tokens = range(step.start - n_prompt, step.end - n_prompt)
        generated = [not inserted[token] for token in tokens]
        count = step.kept - sum(generated)
        counts = [count := count + is_new for is_new in generated]
        texts = [
            chat.tokens[token] if stream is None else stream.push(chat.token_ids[token])
            for token in tokens
        ]
        thoughts.append(Thought(texts, counts))
    return thoughts


def place_of(steps: Sequence[Piece], thoughts: Sequence[Thought], marker: int) -> int:
    """Position in the conversation of the last token kept at the marker; -1 without steps."""
    counts = [count for thought in thoughts for count in thought.counts]
    if not counts:
        return -1
    return steps[0].start + (bisect_left(counts, marker) if marker >= counts[0] else -1)


def count_at(steps: Sequence[Piece], thoughts: Sequence[Thought], position: int) -> int:
    """Number of thinking tokens up to a position in the conversation; -1 outside the thinking."""
    counts = [count for thought in thoughts for count in thought.counts]
    index = position - steps[0].start if steps else -1
    return counts[index] if 0 <= index < len(counts) else -1


def missing(steps: Sequence[Piece], answers: Collection[int]) -> list[int]:
    """The points, before the thinking and after each step of it, that have no answer yet."""
    return [point for point in (0, *(step.kept for step in steps)) if point not in answers]


def cost_text(n_answers: int, seconds: float) -> str:
    """How many answers remain, and about how long they take: "97, about 4 min"."""
    if seconds < 5:
        return f"{n_answers:,}"
    about = (
        tr("{seconds:,.0f} min", seconds=seconds / 60)
        if seconds >= 90
        else tr("{seconds:.0f} s", seconds=seconds)
    )
    return tr("{n_answers:,}, about {about}", n_answers=n_answers, about=about)


def marker_html(
    chat: Chat,
    marker: int,
    last: int,
    *,
    answer: Answer | None,
    is_asking: bool = False,
    error: str = "",
) -> str:
    """The answer at the marker, or why there is none yet; all texts are escaped.

    Args:
        chat: the finished reply, with whose answer it is compared.
        marker: number of thinking tokens kept.
        last: number of all thinking tokens.
        answer: the answer there, if the model was asked.
        is_asking: True while it is asked.
        error: why it could not be asked, or empty.
    """
    head = tr("Answer after {marker:,} of {last:,} thinking tokens: ", marker=marker, last=last)
    if answer is not None:
        verdict = judge(answer.text, chat.answer)
        return _said(head + verdict_html(verdict)) + answer_box(answer.text, chat.answer)
    if is_asking:
        return _said(f'{head}<span class="q3-asking">{tr("asking …")}</span>')
    if error:
        return _said(f'{head}<div class="q3-alert" role="alert">{html.escape(error)}</div>')
    if marker == last:
        return _said(head + tr("that of this run")) + answer_box(chat.answer, "")
    return _said(f'{head}<span class="q3-hint">{tr("not asked yet")}</span>')


def _said(text: str) -> str:
    return f'<div class="q3-said" aria-live="polite">{text}</div>'


def budget_html(state: ThinkingState) -> str:
    """How many thinking tokens there are, of how many allowed, as a bar; empty before a run."""
    found = progress(state)
    if not state.run or (state.status == "idle" and state.current is None):
        return ""
    if not found.thinks:
        return f'<span class="q3-hint">{tr("This run does not think.")}</span>'
    used, limit = found.thinking_tokens, found.budget
    if limit is None:
        text = tr("{used:,} thinking tokens, no limit", used=used)
        return f'<span class="q3-hint">{text}</span>'
    share = min(100, 100 * used / max(1, limit))
    text = tr("{used:,} of {limit:,} thinking tokens", used=used, limit=limit)
    return (
        '<span class="q3-budget"><span class="q3-track"><span class="q3-bar" '
        f'style="width: {share:.0f}%"></span></span>'
        f'<span class="q3-hint">{text}</span></span>'
    )
