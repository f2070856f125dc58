"""Renders chat templates: a template is a program of a model's folder.

Templates known to end, the published one of Qwen3 and that of the embedded models, are rendered
here. All others are rendered in a process that is limited in time and memory.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen3lab.device.worker_process import WorkerProcess
from qwen3lab.errors import ChatError
from qwen3lab.text.tokenizer import first_line

SECONDS = 10
"""Time limit of rendering one conversation."""
MAX_MEMORY_BYTES = 2**30

KNOWN_TEMPLATES = {
    "87a2728cb8dc9fe424d624542f6060ec05a1d285ebbec578bb078900e33396b5": "Qwen3",
    "a55ee1b1660128b7098723e0abcd92caa0788061051c62d51cbe87d9cf1974d8": "Qwen3, revised",
    "9c7b6daa87257338a488dc4f454e7a62bc5c1d76a19f1b47502866b56d32ea28": "the embedded models",
}
"""SHA-256 of templates that were read and found to end: they loop over the messages alone."""

_PROCESS = WorkerProcess(
    Path(__file__).with_name("template_worker.py"),
    seconds=SECONDS,
    max_memory_bytes=MAX_MEMORY_BYTES,
)


def render_template(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
) -> str:
    """What `tokenizer.apply_chat_template` renders, within limits of time and memory.

    Args:
        tokenizer: whose chat template and special tokens are used.
        messages: the conversation.
        options: further arguments of `apply_chat_template`.

    Raises:
        ChatError: the template fails or exceeds a limit.
    """
    talk = [dict(message) for message in messages]
    try:
        template = tokenizer.get_chat_template()
        if hashlib.sha256(template.encode()).hexdigest() in KNOWN_TEMPLATES:
            return tokenizer.apply_chat_template(talk, tokenize=False, **options)
        given = {**tokenizer.special_tokens_map, **options, "chat_template": template}
        request = json.dumps([talk, given])
    except Exception as error:  # The template's own refusal; messages that are not JSON.
        raise _refusal(error) from error
    reply = _PROCESS.ask(request)
    if reply is None:
        raise _refusal(
            f"it does not end within {SECONDS} seconds and {MAX_MEMORY_BYTES // 2**20:,} MiB"
        )
    text, reason = json.loads(reply)
    if text is None:
        raise _refusal(reason)
    return text


def _refusal(reason: Exception | str) -> ChatError:
    return ChatError(f"the chat template refuses the conversation: {first_line(reason)}")
