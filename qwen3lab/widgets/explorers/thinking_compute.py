"""Data of the thinking explorer's panes, computed from a chat. Draws nothing."""

import html
from collections.abc import Mapping, Sequence

import pandas
from pandas.io.formats.style import Styler

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
    rows = [("no tokens kept", 0)]
    rows += [(visible(step.text.strip()), step.kept) for step in steps]
    kept = [tokens for _, tokens in rows]
    table = pandas.DataFrame(
        {
            "tokens": kept,
            "thinking step": [text for text, _ in rows],
            "answer": [_answer_text(answers.get(tokens), final) for tokens in kept],
        }
    )
    here = [["q3-here" if tokens == marker else ""] * table.shape[1] for tokens in kept]
    styled = Styler(table, uuid="steps", cell_ids=False).hide(axis="index")
    styled.format(escape="html")
    styled.set_td_classes(pandas.DataFrame(here, columns=table.columns))
    return styled.set_table_attributes('class="q3-steps"').to_html()


def _answer_text(answer: Answer | None, final: str) -> str:
    if answer is None:
        return ""
    return (answer.text or "(no answer)") + (" ✓" if answer.text == final else "")
