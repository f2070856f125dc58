"""From a thinking to what the thinking explorer's panes show. Pure: nothing here draws."""

import html
from collections.abc import Mapping, Sequence

from qwen3lab.figures.theme import visible
from qwen3lab.generation.reply import Chat
from qwen3lab.thinking import Answer, Piece, pieces

MOST_STEPS = 24
FEWEST_SENTENCES = 3


def steps_of(chat: Chat) -> list[Piece]:
    """The thinking in steps: its sentences, or even stretches where it has but a few.

    None where the model thought nothing of its own.
    """
    try:
        sentences = pieces(chat)
    except ValueError:
        return []
    n_tokens = sentences[-1].end - sentences[0].start
    if len(sentences) >= FEWEST_SENTENCES or n_tokens <= FEWEST_SENTENCES:
        return sentences
    return pieces(chat, max(1, -(-n_tokens // MOST_STEPS)))


def place_of(steps: Sequence[Piece], marker: int) -> int:
    """The last token, counted over the conversation, that is kept at a marker."""
    if not steps:
        return -1
    return steps[-1].end - 1 - (steps[-1].kept - marker)


def marker_html(chat: Chat, steps: Sequence[Piece], marker: int, answer: Answer | None) -> str:
    """What would be answered at the marker, and the thinking before and after it."""
    n_prompt = chat.spans["prompt"][1]
    cut = place_of(steps, marker) + 1 - n_prompt
    first, end = (steps[0].start - n_prompt, steps[-1].end - n_prompt) if steps else (0, 0)
    kept = "".join(chat.tokens[first : max(first, cut)])
    left = "".join(chat.tokens[max(first, cut) : end])
    said = "…" if answer is None else html.escape(answer.text or "(no answer)")
    return (
        f'<div class="q3-said">After {marker} thinking tokens it would answer <b>{said}</b></div>'
        f'<pre class="q3-cut">{html.escape(kept)}<s>{html.escape(left)}</s></pre>'
    )


def steps_html(
    steps: Sequence[Piece], answers: Mapping[int, Answer], marker: int, final: str
) -> str:
    """The answer after each step, one row each; those that are the reply's own are marked."""
    rows = [_row("before any thinking", 0, answers, marker, final)]
    rows += [_row(visible(step.text.strip()), step.kept, answers, marker, final) for step in steps]
    head = "<tr><th>tokens</th><th>thought</th><th>would answer</th></tr>"
    return f'<table class="q3-steps">{head}{"".join(rows)}</table>'


def _row(text: str, kept: int, answers: Mapping[int, Answer], marker: int, final: str) -> str:
    answer = answers.get(kept)
    said = "" if answer is None else html.escape(answer.text or "(no answer)")
    same = answer is not None and answer.text == final
    here = ' class="q3-here"' if kept == marker else ""
    return (
        f"<tr{here}><td>{kept}</td><td>{html.escape(text)}</td>"
        f"<td>{said}{' ✓' if same else ''}</td></tr>"
    )
