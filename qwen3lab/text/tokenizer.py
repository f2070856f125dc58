"""Opens tokenizers, finds special ids, and decodes tokens one at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from qwen3lab.errors import ChatError


def open_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """Open the tokenizer of a model folder; code in the folder is never executed.

    Raises:
        ChatError: the folder has no tokenizer that `transformers` opens.
    """
    try:
        return AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # The tokenizers library raises a bare Exception for damaged files.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ChatError(
            f"{folder} has no tokenizer that transformers opens "
            f"({reason}): expected tokenizer.json and tokenizer_config.json, complete"
        ) from error


def single_id(tokenizer: Any, token: str) -> int | None:
    """The id of a token such as `<think>`, or None if the vocabulary has no such token."""
    token_id = tokenizer.get_vocab().get(token)
    return None if token_id is None else int(token_id)


def end_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of the tokens that end a reply: the tokenizer's own, and the two of Qwen3."""
    named = [single_id(tokenizer, token) for token in ("<|im_end|>", "<|endoftext|>")]
    return frozenset(i for i in [tokenizer.eos_token_id, *named] if i is not None)


def token_texts(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    """The text of each token, one string per token.

    A token that holds only part of a character is written as bytes: `⟨e4⟩⟨bd⟩`.
    """
    return [_token_text(tokenizer, int(token)) for token in token_ids]


def _token_text(tokenizer: Any, token_id: int) -> str:
    text = tokenizer.decode([token_id], skip_special_tokens=False)
    if "\ufffd" not in text:
        return text
    piece = tokenizer.convert_ids_to_tokens(token_id)
    byte_of = _byte_of_char()
    if not isinstance(piece, str) or any(char not in byte_of for char in piece):
        return text
    return _show_bytes(bytes(byte_of[char] for char in piece))


def _show_bytes(raw: bytes) -> str:
    """Decodes complete characters; writes the bytes of incomplete ones in angle brackets."""
    text = raw.decode("utf-8", errors="surrogateescape")
    return "".join(
        f"⟨{ord(char) - 0xDC00:02x}⟩" if 0xDC80 <= ord(char) <= 0xDCFF else char for char in text
    )


def _byte_of_char() -> dict[str, int]:
    """The byte that each character of a byte-level BPE vocabulary stands for.

    Printable Latin-1 characters stand for their own byte. The other bytes are represented, in
    order, by characters from U+0100 on (GPT-2's byte-level BPE, which Qwen uses).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    shifted = {chr(0x100 + index): byte for index, byte in enumerate(others)}
    return {chr(byte): byte for byte in printable} | shifted


class TextStream:
    """Decodes a stream of tokens; buffers tokens until their characters are complete."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._pending: list[int] = []

    def push(self, token_id: int) -> str:
        """Add a token; returns the text completed by it, or "" within a character."""
        self._pending.append(token_id)
        text = self._tokenizer.decode(self._pending, skip_special_tokens=False)
        # A character has at most four bytes, so four pending tokens can no longer complete one.
        if text.endswith("\ufffd") and len(self._pending) < 4:
            return ""
        self._pending = []
        return text
