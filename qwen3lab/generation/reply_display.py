"""Display of replies: a conversation in a notebook, one line in a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qwen3lab.display import Page, count, one_line
from qwen3lab.generation.thinking_control import STOP_REASONS

if TYPE_CHECKING:
    from qwen3lab.generation.reply import Chat, Generation

MAX_LINE_CHARACTERS = 60
"""Maximum length of a question or an answer in the one-line form."""


def chat_line(chat: "Chat") -> str:
    """One line: question, answer, stop and token counts."""
    question = one_line(_question(chat.messages), width=MAX_LINE_CHARACTERS)
    answer = one_line(chat.answer, width=MAX_LINE_CHARACTERS) or "no answer"
    return f"Chat: {question} → {answer} ({', '.join(_counts(chat))}; stop: {chat.stop})"


def generation_line(generation: "Generation") -> str:
    """One line: text, stop and token count."""
    text = one_line(generation.text, width=MAX_LINE_CHARACTERS) or "no text"
    tokens = count(len(generation.token_ids), "token")
    return f"Generation: {text} ({tokens}; stop: {generation.stop})"


def chat_html(chat: "Chat") -> str:
    """The question, the folded thinking, the answer, the stop reason and token counts."""
    page = Page()
    for message in chat.messages[:-1]:
        page.folded(str(message["role"]), str(message.get("content") or ""))
    page.heading("Question").text(_question(chat.messages), boxed=True)
    if chat.thinking:
        page.folded(f"Thinking · {count(chat.thinking_tokens, 'token')}", chat.thinking)
    if chat.answer:
        page.heading("Answer").text(chat.answer)
    else:
        page.note("No answer: the reply ended before it.")
    return page.note(_ending(chat, _counts(chat))).render()


def generation_html(generation: "Generation") -> str:
    """The text, the stop reason and the token count."""
    page = Page().heading("Generated text")
    page.text(generation.text, boxed=True) if generation.text else page.note("No text.")
    return page.note(_ending(generation, [count(len(generation.token_ids), "token")])).render()


def _question(messages: Sequence[object]) -> str:
    last = messages[-1] if messages else {}
    return str(last.get("content", "")) if isinstance(last, dict) else ""


def _counts(chat: "Chat") -> list[str]:
    thinking = [f"{chat.thinking_tokens:,} thinking"] if chat.thinking_tokens else []
    return [*thinking, f"{count(chat.answer_tokens, 'answer token')}"]


def _ending(generation: "Generation", counts: Sequence[str]) -> str:
    reason = STOP_REASONS.get(generation.stop, generation.stop)
    recorded = " · recorded" if generation.recording is not None else ""
    return f"{' + '.join(counts)} · Stop: {reason}{recorded}"
