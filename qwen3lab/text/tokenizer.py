"""The tokenizer: opening it, special ids, and the text that each token shows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from qwen3lab.errors import ChatError


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
