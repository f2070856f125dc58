"""Opens tokenizers, finds special ids, and decodes tokens one at a time."""

import codecs
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from qwen3lab.display.plain import one_line
from qwen3lab.errors import ChatError


def open_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """Open the tokenizer of a model folder; code in the folder is never executed.

    Raises:
        ChatError: the folder has no tokenizer that `transformers` opens and that encodes, or lacks
            its vocabulary.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True
        )
        tokenizer.encode("a", add_special_tokens=False)  # Fails where a setting has a wrong type.
    except Exception as error:  # The tokenizers library raises a bare Exception for damaged files.
        reason = first_line(error)
        raise ChatError(
            f"{folder} has no tokenizer that transformers opens "
            f"({reason}): expected tokenizer.json and tokenizer_config.json, complete"
        ) from error
    if not _has_vocabulary(tokenizer, Path(folder)):
        raise ChatError(
            f"{folder} has no tokenizer files, so transformers would invent a vocabulary: "
            "expected tokenizer.json and tokenizer_config.json beside the weights"
        )
    return tokenizer


def first_line(error: Exception | str) -> str:
    """The first line of a foreign error's message, shortened; it may quote a whole file."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return one_line(lines[0], width=200)


def _has_vocabulary(tokenizer: Any, folder: Path) -> bool:
    """True if the vocabulary comes from the folder; without files, transformers invents one."""
    names = dict(tokenizer.vocab_files_names)
    fast = names.pop("tokenizer_file", "tokenizer.json")
    in_parts = bool(names) and all((folder / name).is_file() for name in names.values())
    return (in_parts or (folder / fast).is_file()) and tokenizer.vocab_size > 1


def encode_text(tokenizer: Any, text: str, *, special: bool = False) -> list[int]:
    """The token ids of a text, without special tokens added unless `special` is set.

    Raises:
        ValueError: the text holds half of a surrogate pair, which no UTF-8 can express.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start} of the text is {text[error.start]!r}, half of a surrogate "
            "pair: remove it, or decode the text again with the right encoding"
        ) from error
    return tokenizer.encode(text, add_special_tokens=special)


def single_id(tokenizer: Any, token: str) -> int | None:
    """The id of a token such as `<think>`, or None if the vocabulary has no such token."""
    # Not `get_vocab`, which copies a vocabulary of 150,000 tokens.
    token_id = tokenizer.convert_tokens_to_ids(token)
    if token_id is None or tokenizer.convert_ids_to_tokens(token_id) != token:
        return None
    return int(token_id)


def end_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of the tokens that end a reply: the tokenizer's own, and the two of Qwen3."""
    named = [single_id(tokenizer, token) for token in ("<|im_end|>", "<|endoftext|>")]
    return frozenset(i for i in [tokenizer.eos_token_id, *named] if i is not None)


def token_texts(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    """The text of each token, one string per token.

    A token that holds only part of a character is written as bytes: `⟨e4⟩⟨bd⟩`.
    """
    ids = [int(token) for token in token_ids]
    texts = {token: _token_text(tokenizer, token) for token in set(ids)}
    return [texts[token] for token in ids]


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


@functools.cache
def _byte_of_char() -> Mapping[str, int]:
    """The byte that each character of a byte-level BPE vocabulary stands for.

    Printable Latin-1 characters stand for their own byte. The other bytes are represented, in
    order, by characters from U+0100 on (GPT-2's byte-level BPE, which Qwen uses).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    shifted = {chr(0x100 + index): byte for index, byte in enumerate(others)}
    return {chr(byte): byte for byte in printable} | shifted


class TextStream:
    """Decodes a stream of tokens; holds bytes back until their character is complete.

    The pieces, with that of `flush`, join to what the tokenizer decodes from all tokens at once.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._bytes = _byte_of_char() if _is_byte_level(tokenizer) else None
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._pending: list[int] = []

    def push(self, token_id: int) -> str:
        """Add a token; returns the text completed by it, or "" within a character."""
        if self._bytes is not None:
            piece = self._tokenizer.convert_ids_to_tokens(token_id) or ""
            known = all(char in self._bytes for char in piece)
            raw = bytes(self._bytes[char] for char in piece) if known else piece.encode()
            return self._utf8.decode(raw)
        self._pending.append(token_id)
        text = self._tokenizer.decode(self._pending, skip_special_tokens=False)
        # A character has at most four bytes, so four pending tokens can no longer complete one.
        if text.endswith("\ufffd") and len(self._pending) < 4:
            return ""
        self._pending = []
        return text

    def flush(self) -> str:
        """The text of what is held back; an incomplete character becomes U+FFFD."""
        pending, self._pending = self._pending, []
        text = self._tokenizer.decode(pending, skip_special_tokens=False) if pending else ""
        text += self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return text


def _is_byte_level(tokenizer: Any) -> bool:
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    return type(decoder).__name__ == "ByteLevel"


class StopFilter:
    """Holds back the end of a stream that may become a stop string, and drops what follows one.

    Args:
        stop: strings that end the text.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop, self._held = stop, ""

    def push(self, text: str) -> str:
        """Add text; returns what can no longer be part of a stop string."""
        text = self._held + text
        ends = [text.index(stop) for stop in self._stop if stop in text]
        n_held = max((_overlap(text, stop) for stop in self._stop), default=0)
        end = min(ends, default=len(text) - n_held)
        self._held = "" if ends else text[end:]
        return text[:end]

    def flush(self) -> str:
        """The held text, once it is clear that no stop string follows."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that begins `stop`."""
    lengths = range(min(len(text), len(stop) - 1), 0, -1)
    return next((n for n in lengths if text.endswith(stop[:n])), 0)
