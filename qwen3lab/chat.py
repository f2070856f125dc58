"""Text and tokens: the tokenizer, the chat template, the soft switches, what a token shows.

Message text is not escaped, as in the published template: a message that contains
`<|im_end|>` ends its turn. What is drawn or printed later is escaped there.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

Message = Mapping[str, str]
"""One turn: "role" (system, user, assistant or tool) and "content"."""

ROLES = ("system", "user", "assistant", "tool")
EARLY_STOP = (
    "Considering the limited time by the user, I have to give the solution based on the "
    "thinking directly now."
)
"""The sentence that cuts a thinking short (arXiv 2505.09388, section 4.3)."""

_SWITCH = re.compile(r"/(no_)?think\b")


class ChatError(ValueError):
    """Messages that cannot be rendered, or a tokenizer that cannot chat."""


def open_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer in a model's folder; code that a folder brings along is never run.

    Raises:
        ChatError: the folder has no tokenizer that `transformers` opens.
    """
    try:
        return AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # Of a damaged file the tokenizers library raises just that.
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise ChatError(
            f"{folder} has no tokenizer that transformers opens "
            f"({why}): expected tokenizer.json and tokenizer_config.json, whole"
        ) from error


def as_messages(conversation: str | Sequence[Message]) -> list[Message]:
    """A question as a conversation of one message; a conversation as it is, checked.

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
    """Whether a reply thinks.

    `thinking=False` is off, whatever the text says. Otherwise the last soft switch, `/think`
    or `/no_think`, in a user or system message wins; without any, the reply thinks.
    """
    if thinking is False:
        return False
    said = [m["content"] for m in messages if m.get("role") in ("user", "system")]
    switches = [found for text in said for found in _SWITCH.finditer(text)]
    return not (switches and switches[-1].group(1))


def render(
    tokenizer: Any,
    messages: Sequence[Message],
    *,
    thinking: bool = True,
    add_generation_prompt: bool = True,
) -> str:
    """The conversation as text, by the tokenizer's own chat template.

    Args:
        tokenizer: of the model.
        messages: checked by `as_messages`.
        thinking: False puts an empty thinking block in front of the reply.
        add_generation_prompt: end where the reply begins.

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
    """The conversation as token ids, up to where the reply begins.

    A conversation that ends with the assistant's message is rendered as it stands.
    """
    to_reply = messages[-1].get("role") != "assistant" if messages else True
    text = render(tokenizer, messages, thinking=thinking, add_generation_prompt=to_reply)
    return tokenizer.encode(text, add_special_tokens=False)


def early_stop_text(tokenizer: Any) -> str:
    """What is inserted when the thinking budget is used up; embedded models have their own."""
    sentence = tokenizer.init_kwargs.get("thinking_early_stop") or EARLY_STOP
    return f"{sentence}\n</think>\n\n"


def single_id(tokenizer: Any, token: str) -> int | None:
    """The id of a token such as `<think>`, or None if the vocabulary has no such token."""
    found = tokenizer.get_vocab().get(token)
    return None if found is None else int(found)


def end_ids(tokenizer: Any) -> frozenset[int]:
    """Tokens that end a reply: the tokenizer's own, and the two that Qwen3 uses."""
    named = [single_id(tokenizer, token) for token in ("<|im_end|>", "<|endoftext|>")]
    return frozenset(i for i in [tokenizer.eos_token_id, *named] if i is not None)


def token_texts(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    """The text of each token, one for one.

    A character that is spread over several tokens shows on none of them: each such token
    shows its bytes, as in `⟨e4⟩⟨bd⟩`.
    """
    return [_token_text(tokenizer, int(token)) for token in token_ids]


def _token_text(tokenizer: Any, token_id: int) -> str:
    text = tokenizer.decode([token_id], skip_special_tokens=False)
    if "\ufffd" not in text:
        return text
    piece = tokenizer.convert_ids_to_tokens(token_id)
    known = _byte_of_char()
    if not isinstance(piece, str) or any(char not in known for char in piece):
        return text
    return _show_bytes(bytes(known[char] for char in piece))


def _show_bytes(raw: bytes) -> str:
    """Whole characters as they are, the bytes of broken ones in angle brackets."""
    shown = raw.decode("utf-8", errors="surrogateescape")
    return "".join(
        f"⟨{ord(char) - 0xDC00:02x}⟩" if 0xDC80 <= ord(char) <= 0xDCFF else char for char in shown
    )


def _byte_of_char() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for.

    Printable Latin-1 stands for itself, the other bytes for characters from U+0100 on, in
    order (GPT-2's byte-level BPE, which Qwen uses).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    shifted = {chr(0x100 + index): byte for index, byte in enumerate(others)}
    return {chr(byte): byte for byte in printable} | shifted


class TextStream:
    """Turns tokens into text as they come; holds back characters that are not complete."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._pending: list[int] = []

    def push(self, token_id: int) -> str:
        """The text that this token completes; empty while a character is unfinished."""
        self._pending.append(token_id)
        text = self._tokenizer.decode(self._pending, skip_special_tokens=False)
        # Four bytes make the longest character, so anything older is not going to be whole.
        if text.endswith("\ufffd") and len(self._pending) < 4:
            return ""
        self._pending = []
        return text
