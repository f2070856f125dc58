"""Renders chat templates in a limited process: a template is a program of a model's folder."""

import base64
import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen3lab.device.worker_process import WorkerProcess
from qwen3lab.errors import ChatError

SECONDS = 10
"""Time limit of rendering one conversation."""
MAX_MEMORY_BYTES = 2**30

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
    try:
        template = tokenizer.get_chat_template()
        given = {**tokenizer.special_tokens_map, **options, "chat_template": template}
        request = base64.b64encode(pickle.dumps((_plain(messages), given))).decode()
    except Exception as error:  # Several templates without a default; objects of a closed file.
        raise _refusal(str(error) or type(error).__name__) from error
    reply = _PROCESS.ask(request)
    if reply is None:
        raise _refusal(
            f"it does not end within {SECONDS} seconds and {MAX_MEMORY_BYTES // 2**20:,} MiB"
        )
    text, reason = json.loads(reply)
    if text is None:
        raise _refusal(reason)
    return text


def _plain(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [dict(message) for message in messages]


def _refusal(reason: str) -> ChatError:
    line = " ".join(reason.split())
    shown = "".join(char if char.isprintable() else "�" for char in line)[:300]
    return ChatError(f"the chat template refuses the conversation: {shown}")
