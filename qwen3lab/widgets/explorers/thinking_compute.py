"""Data of the thinking explorer's panes, computed from a chat. Draws nothing."""

import html
from collections.abc import Mapping, Sequence

from qwen3lab.figures.theme import visible
from qwen3lab.generation.reply import Chat
from qwen3lab.thinking import Answer, Piece, pieces

MAX_STEPS = 24
"""Largest number of steps of equal length."""

MIN_SENTENCES = 3
"""A thinking with fewer sentences is split into steps of equal length."""


def steps_of(chat: Chat) -> list[Piece]:
    """The thinking as steps: its sentences, or steps of equal length if they are few.

    Empty if the model generated no thinking.
    """
    try:
        sentences = pieces(chat)
    except ValueError:
        return []
    n_tokens = sentences[-1].end - sentences[0].start
    if len(sentences) >= MIN_SENTENCES or n_tokens <= MIN_SENTENCES:
        return sentences
    return pieces(chat, max(1, -(-n_tokens // MAX_STEPS)))


def place_of(steps: Sequence[Piece], marker: int) -> int:
    """Position in the conversation of the last token kept at the marker; -1 without steps."""
    if not steps:
        return -1
    return steps[-1].end - 1 - (steps[-1].kept - marker)


def marker_html(chat: Chat, steps: Sequence[Piece], marker: int, answer: Answer | None) -> str:
    """The answer at the marker, and the thinking with the part after the marker struck out."""
    n_prompt = chat.spans["prompt"][1]
    cut = place_of(steps, marker) + 1 - n_prompt
    first, end = (steps[0].start - n_prompt, steps[-1].end - n_prompt) if steps else (0, 0)
    kept = "".join(chat.tokens[first : max(first, cut)])
    dropped = "".join(chat.tokens[max(first, cut) : end])
    text = "…" if answer is None else html.escape(answer.text or "(no answer)")
    return (
        f'<div class="q3-said">Answer after {marker} thinking tokens: <b>{text}</b></div>'
        f'<pre class="q3-cut">{html.escape(kept)}<s>{html.escape(dropped)}</s></pre>'
    )


def steps_html(
    steps: Sequence[Piece], answers: Mapping[int, Answer], marker: int, final: str
) -> str:
    """A table of the answer after each step; ✓ marks answers equal to the final one."""
    rows = [_row("no tokens kept", 0, answers, marker, final)]
    rows += [_row(visible(step.text.strip()), step.kept, answers, marker, final) for step in steps]
    head = "<tr><th>tokens</th><th>thinking step</th><th>answer</th></tr>"
    return f'<table class="q3-steps">{head}{"".join(rows)}</table>'


def _row(text: str, kept: int, answers: Mapping[int, Answer], marker: int, final: str) -> str:
    answer = answers.get(kept)
    answer_text = "" if answer is None else html.escape(answer.text or "(no answer)")
    is_final = answer is not None and answer.text == final
    highlight = ' class="q3-here"' if kept == marker else ""
    return (
        f"<tr{highlight}><td>{kept}</td><td>{html.escape(text)}</td>"
        f"<td>{answer_text}{' ✓' if is_final else ''}</td></tr>"
    )
