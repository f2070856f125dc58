"""Replies side by side, as HTML."""

import html
from collections.abc import Sequence

from qwen3lab.generation.reply import Chat


def mode_name(chat: Chat, *, asked: bool) -> str:
    """Whether a reply thought: what it did, not what was asked.

    Args:
        chat: the reply.
        asked: True if it was asked to think.
    """
    name = "with thinking" if chat.thinking else "without thinking"
    return name if bool(chat.thinking) == asked else f"{name} all the same"


def answers_html(shown: Sequence[tuple[str, Chat]]) -> str:
    """Replies side by side, as HTML, each with its name; model output is escaped."""
    columns = []
    for name, chat in shown:
        length = f"{chat.thinking_tokens} thinking tokens" if chat.thinking else "no thinking"
        columns.append(
            f'<div><div class="q3-hint">{html.escape(name)}</div>'
            f"<b>{html.escape(chat.answer.strip() or '(no answer)')}</b>"
            f'<div class="q3-hint">{length}</div>'
            f"<pre>{html.escape(chat.thinking.strip())}</pre></div>"
        )
    return f'<div class="q3-answers">{"".join(columns)}</div>'
