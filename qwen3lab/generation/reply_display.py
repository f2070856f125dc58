"""Display of replies: a conversation in a notebook, one line in a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qwen3lab.display import Page, one_line
from qwen3lab.generation.thinking_control import STOP_REASONS
from qwen3lab.translation import tr, tr_count

if TYPE_CHECKING:
    from qwen3lab.generation.reply import Chat, Generation

MAX_LINE_CHARACTERS = 60
"""Maximum length of a question or an answer in the one-line form."""


def chat_line(chat: "Chat") -> str:
    """One line: question, answer, stop and token counts."""
    question = one_line(_question(chat.messages), width=MAX_LINE_CHARACTERS)
    answer = one_line(chat.answer, width=MAX_LINE_CHARACTERS) or tr("no answer")
    return tr(
        "Chat: {question} → {answer} ({counts}; stop: {stop})",
        question=question,
        answer=answer,
        counts=tr(", ").join(_counts(chat)),
        stop=chat.stop,
    )


def generation_line(generation: "Generation") -> str:
    """One line: text, stop and token count."""
    text = one_line(generation.text, width=MAX_LINE_CHARACTERS) or tr("no text")
    tokens = tr_count("{n:,} token", "{n:,} tokens", len(generation.token_ids))
    return tr(
        "Generation: {text} ({tokens}; stop: {stop})",
        text=text,
        tokens=tokens,
        stop=generation.stop,
    )


def chat_html(chat: "Chat") -> str:
    """The question, the folded thinking, the answer, the stop reason and token counts."""
    page = Page()
    for message in chat.messages[:-1]:
        page.folded(str(message["role"]), str(message.get("content") or ""))
    page.heading(tr("Question")).text(_question(chat.messages), boxed=True)
    if chat.thinking:
        n = chat.thinking_tokens
        title = tr_count("Thinking · {n:,} token", "Thinking · {n:,} tokens", n)
        page.folded(title, chat.thinking)
    if chat.answer:
        page.heading(tr("Answer")).text(chat.answer)
    else:
        page.note(tr("No answer: the reply ended before it."))
    return page.note(_ending(chat, _counts(chat))).render()


def generation_html(generation: "Generation") -> str:
    """The text, the stop reason and the token count."""
    page = Page().heading(tr("Generated text"))
    page.text(generation.text, boxed=True) if generation.text else page.note(tr("No text."))
    tokens = tr_count("{n:,} token", "{n:,} tokens", len(generation.token_ids))
    return page.note(_ending(generation, [tokens])).render()


def _question(messages: Sequence[object]) -> str:
    last = messages[-1] if messages else {}
    return str(last.get("content", "")) if isinstance(last, dict) else ""


def _counts(chat: "Chat") -> list[str]:
    thinking = [tr("{n:,} thinking", n=chat.thinking_tokens)] if chat.thinking_tokens else []
    return [*thinking, tr_count("{n:,} answer token", "{n:,} answer tokens", chat.answer_tokens)]


def _ending(generation: "Generation", counts: Sequence[str]) -> str:
    reason = tr(STOP_REASONS.get(generation.stop, generation.stop))
    recorded = tr(" · recorded") if generation.recording is not None else ""
    return tr(
        "{counts} · Stop: {reason}{recorded}",
        counts=" + ".join(counts),
        reason=reason,
        recorded=recorded,
    )
