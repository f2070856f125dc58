"""Renders conversations with the tokenizer's chat template; reads the thinking switches.

As in the published template, message text is not escaped: a message that contains `<|im_end|>`
ends its turn. Figures and widgets escape text when they display it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from qwen3lab.errors import ChatError

Message = Mapping[str, str]
"""One turn: "role" (system, user, assistant or tool) and "content"."""

ROLES = ("system", "user", "assistant", "tool")
EARLY_STOP = (
    "Considering the limited time by the user, I have to give the solution based on the "
    "thinking directly now."
)
"""The early-stop sentence, inserted when the thinking budget is used up.

Source: arXiv 2505.09388, section 4.3.
"""

_SWITCH = re.compile(r"/(no_)?think\b")


def as_messages(conversation: str | Sequence[Message]) -> list[Message]:
    """A validated conversation; a string becomes one user message.

    Raises:
        ChatError: no messages, an unknown role, or a message without text.
    """
    if isinstance(conversation, str):
        conversation = [{"role": "user", "content": conversation}]
    if not isinstance(conversation, Sequence) or not conversation:
        raise ChatError("the conversation is empty: give a question, or a list of messages")
    for number, message in enumerate(conversation):
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            raise ChatError(
                f"message {number} has no text: expected a dict with 'role' and 'content'"
            )
        if message.get("role") not in ROLES:
            raise ChatError(
                f"message {number} has role {message.get('role')!r}: "
                f"expected one of {', '.join(ROLES)}"
            )
    return list(conversation)


def thinking_mode(messages: Sequence[Message], thinking: bool | None = None) -> bool:
    """True if the reply starts with a thinking block.

    `thinking=False` always turns thinking off. Otherwise the last soft switch (`/think` or
    `/no_think`) in a user or system message decides; without a switch, thinking is on.
    """
    if thinking is False:
        return False
    texts = [m["content"] for m in messages if m.get("role") in ("user", "system")]
    switches = [match for text in texts for match in _SWITCH.finditer(text)]
    return not (switches and switches[-1].group(1))


def render(
    tokenizer: Any,
    messages: Sequence[Message],
    *,
    thinking: bool = True,
    add_generation_prompt: bool = True,
) -> str:
    """The conversation as text, rendered with the tokenizer's chat template.

    Args:
        tokenizer: of the model.
        messages: validated by `as_messages`.
        thinking: False inserts an empty thinking block before the reply.
        add_generation_prompt: True appends the header of the assistant's reply.

    Raises:
        ChatError: the tokenizer has no chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ChatError(
            "the tokenizer has no chat template, so this is a base model: "
            "use record or generate with text instead of messages"
        )
    return tokenizer.apply_chat_template(
        list(as_messages(messages)),
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
        enable_thinking=thinking,
    )


def render_ids(tokenizer: Any, messages: Sequence[Message], *, thinking: bool = True) -> list[int]:
    """The conversation as token ids, including the header of the assistant's reply.

    A conversation that ends with an assistant message gets no such header.
    """
    needs_reply = messages[-1].get("role") != "assistant" if messages else True
    text = render(tokenizer, messages, thinking=thinking, add_generation_prompt=needs_reply)
    return tokenizer.encode(text, add_special_tokens=False)


def early_stop_text(tokenizer: Any) -> str:
    """Text inserted when the thinking budget is used up; embedded models have their own."""
    sentence = tokenizer.init_kwargs.get("thinking_early_stop") or EARLY_STOP
    return f"{sentence}\n</think>\n\n"
