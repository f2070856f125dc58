"""Replies side by side, as HTML."""

import html
from collections.abc import Sequence

from qwen3lab.generation.reply import Chat
from qwen3lab.translation import tr
from qwen3lab.widgets.explorers.answer_html import answer_html
from qwen3lab.widgets.explorers.comparison import Range, Verdict, differences, judge

MAX_SHORT = 40
"""Longest answer that is shown in large type."""


def mode_name(chat: Chat, *, asked: bool) -> str:
    """Whether a reply thought: what it did, not what was asked.

    Args:
        chat: the reply.
        asked: True if it was asked to think.
    """
    name = tr("with thinking") if chat.thinking else tr("without thinking")
    return name if bool(chat.thinking) == asked else tr("{name} all the same", name=name)


def answers_html(shown: Sequence[tuple[str, Chat]]) -> str:
    """Replies side by side, as HTML, each with its name; model output is escaped.

    Where there are several, each is compared with the first one: what differs is marked, and a
    line says whether they say the same.
    """
    columns = []
    for index, (name, chat) in enumerate(shown):
        n = chat.thinking_tokens
        length = tr("{n:,} thinking tokens", n=n) if chat.thinking else tr("no thinking")
        text, verdict = _compared([chat.answer.strip() for _, chat in shown], index)
        thinking = html.escape(chat.thinking.strip())
        folded = f"<details><summary>{tr('thinking')}</summary><pre>{thinking}</pre></details>"
        columns.append(
            f'<div><div class="q3-hint">{html.escape(name)} · {length}{verdict}</div>'
            f"{text}{folded if thinking else ''}</div>"
        )
    return f'<div class="q3-answers">{"".join(columns)}</div>'


def outcome_html(name: str, chat: Chat, other: Chat) -> str:
    """One line: the answer of another reply, and whether it says the same as this one."""
    verdict = verdict_html(judge(chat.answer.strip(), other.answer.strip()))
    answer = other.answer.strip()
    short = answer if len(answer) <= MAX_SHORT else answer[: MAX_SHORT - 1] + "…"
    said = f"<b>{html.escape(short)}</b>" if answer else tr("(no answer)")
    return f'<div class="q3-outcome">{html.escape(name)}{tr(": ")}{said} {verdict}</div>'


def verdict_html(verdict: Verdict) -> str:
    """Whether an answer says the same as another, and what was compared."""
    said = tr("✓ same answer") if verdict.same else tr("✗ another answer")
    return f'<span class="q3-verdict">{said} ({html.escape(verdict.how)})</span>'


def answer_box(answer: str, reference: str) -> str:
    """An answer in a box that scrolls, marked where it differs from a reference that is given."""
    marked: list[Range] = differences(answer, reference)[0] if reference else []
    text = answer_html(answer, marked) or f'<span class="q3-hint">{tr("(no answer)")}</span>'
    is_short = len(answer) <= MAX_SHORT and "\n" not in answer
    name = "q3-answer-text q3-short" if is_short else "q3-answer-text"
    return f'<div class="{name}" tabindex="0">{text}</div>'


def _compared(answers: Sequence[str], index: int) -> tuple[str, str]:
    """An answer as HTML, and whether it says the same as the first one."""
    if len(answers) < 2:
        return answer_box(answers[index], ""), ""
    other = answers[0] if index else answers[1]
    verdict = f"<br>{verdict_html(judge(answers[index], answers[0]))}" if index else ""
    return answer_box(answers[index], other), verdict
