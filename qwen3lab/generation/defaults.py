"""What a model's `generation_config.json` says about its replies: ends, sampling and length."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from qwen3lab.display.plain import one_line
from qwen3lab.errors import ConfigError
from qwen3lab.generation.sampling import Sampling

FILE = "generation_config.json"
SAMPLING_FIELDS = ("temperature", "top_k", "top_p", "min_p")
LARGEST_VALUE = 1e9
"""Of a temperature or filter; above are infinities and integers that no float holds."""
USED_FIELDS = frozenset(["do_sample", "eos_token_id", "max_new_tokens", *SAMPLING_FIELDS])
THINKING_OUTPUT, INSTRUCT_OUTPUT = 32_768, 16_384
"""Output length that Qwen3's model cards recommend for most queries; the second is for models that
never think (Instruct-2507)."""
FIELDS_WITHOUT_EFFECT = frozenset(
    [
        "_from_model_config",
        "assistant_confidence_threshold",
        "assistant_lookbehind",
        "bos_token_id",
        "cache_config",
        "cache_implementation",
        "compile_config",
        "decoder_start_token_id",
        "disable_compile",
        "early_stopping",
        "is_assistant",
        "length_penalty",
        "low_memory",
        "max_cache_len",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "output_attentions",
        "output_hidden_states",
        "output_logits",
        "output_scores",
        "pad_token_id",
        "prefill_chunk_size",
        "return_dict_in_generate",
        "target_lookbehind",
        "transformers_version",
        "use_cache",
    ]
)
"""Fields that change no token of one reply: caches, outputs, and settings of beam search and of
assistant models, which other fields switch on."""
NEUTRAL = {
    "repetition_penalty": 1,
    "encoder_repetition_penalty": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "diversity_penalty": 0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "num_beams": 1,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "typical_p": 1,
    "epsilon_cutoff": 0,
    "eta_cutoff": 0,
    "guidance_scale": 1,
    "min_length": 0,
    "min_new_tokens": 0,
}
"""Fields that change what transformers draws and that are not implemented, with no effect at these
values. Every other field that is not known is named in a warning unless it is empty."""


@dataclass(frozen=True)
class ReplyDefaults:
    """Defaults of a model's replies.

    Attributes:
        ends: token ids that end a reply, besides those of the tokenizer.
        published: the sampling of the file; None if it names none.
        max_new_tokens: the length of the file; None if it names none.
    """

    ends: frozenset[int] = frozenset()
    published: Sampling | None = None
    max_new_tokens: int | None = None

    @classmethod
    def from_folder(cls, folder: Path) -> "ReplyDefaults":
        """Read a model folder's `generation_config.json`.

        Without this file, the end tokens are those of `config.json`, as in transformers.

        Raises:
            ConfigError: the file is damaged, or a value is outside its range.
        """
        fields = _read(folder / FILE)
        if fields is not None:
            return cls.from_fields(fields)
        fields = _read(folder / "config.json") or {}
        return cls(_ends(fields.get("eos_token_id"), "config.json"))

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "ReplyDefaults":
        """Read the fields of a generation config; warns of those that are not implemented.

        Raises:
            ConfigError: a value outside its range.
        """
        if unused := _unused(fields):
            warnings.warn(f"{FILE} sets {unused}: replies ignore it", stacklevel=2)
        longest = _max_new_tokens(fields.get("max_new_tokens"))
        return cls(_ends(fields.get("eos_token_id")), _sampling(fields), longest)

    @property
    def output_tokens(self) -> int:
        """Maximum length of a chat's reply: that of the file, or of the model cards."""
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        never_thinks = self.published == Sampling.published(thinking=False)
        return INSTRUCT_OUTPUT if never_thinks else THINKING_OUTPUT

    def sampling(self, *, thinking: bool) -> Sampling:
        """The sampling of a reply with or without thinking.

        The file of a model with both modes holds the settings for thinking; replies without
        thinking then take those of Qwen3's model cards.
        """
        if self.published is None or (
            not thinking and self.published == Sampling.published(thinking=True)
        ):
            return Sampling.published(thinking=thinking)
        return self.published


def _read(path: Path) -> dict[str, Any] | None:
    if path.exists() and not path.is_file():  # Reading a pipe would block.
        raise ConfigError(f"{path} is not a regular file: expected a file of JSON")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        reason = one_line(str(error), width=200)
        raise ConfigError(f"{path} is not readable JSON ({reason})") from error
    if not isinstance(fields, dict):
        raise ConfigError(f"{path} holds {shown(fields)}: expected an object")
    return fields


def _unused(fields: Mapping[str, Any]) -> str:
    """The fields that are not implemented, with their values."""
    known = USED_FIELDS | FIELDS_WITHOUT_EFFECT
    named = {name: value for name, value in fields.items() if name not in known}
    return ", ".join(
        f"{one_line(name, width=60)}={shown(value)}"
        for name, value in named.items()
        if not (value is None or value is False or value in ([], {}, ""))
        and value != NEUTRAL.get(name)
    )


def _ends(value: Any, source: str = FILE) -> frozenset[int]:
    listed = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(token, int) and not isinstance(token, bool) for token in listed):
        raise ConfigError(f"{source} gives eos_token_id as {shown(value)}: expected token ids")
    return frozenset(listed)


def _max_new_tokens(value: Any) -> int | None:
    is_length = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not (value is None or (is_length and value <= LARGEST_VALUE)):
        raise ConfigError(
            f"{FILE} gives max_new_tokens as {shown(value)}: expected a number of tokens from 1"
        )
    return value


def _sampling(fields: Mapping[str, Any]) -> Sampling | None:
    """The sampling that transformers reads from the fields; missing ones take its defaults."""
    samples = fields.get("do_sample")
    if not (samples is None or isinstance(samples, bool)):
        raise ConfigError(f"{FILE} gives do_sample as {shown(samples)}: expected true or false")
    if samples is False:
        return Sampling.greedy()
    given = {name: fields[name] for name in SAMPLING_FIELDS if fields.get(name) is not None}
    for name, value in given.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ConfigError(f"{FILE} gives {name} as {shown(value)}: expected a number")
        if abs(value) > LARGEST_VALUE:
            raise ConfigError(f"{FILE} gives {name} as {shown(value)}: expected a number up to 1e9")
    if not given and samples is None:
        return None
    top_k = given.get("top_k", 50)
    if top_k != top_k or top_k != int(top_k):
        raise ConfigError(f"{FILE} gives top_k as {shown(top_k)}: expected a whole number")
    try:
        return Sampling(
            temperature=float(given.get("temperature", 1.0)),
            top_k=int(top_k) or None,
            top_p=float(given.get("top_p", 1.0)),
            min_p=float(given.get("min_p", 0.0)),
        )
    except ValueError as error:
        raise ConfigError(f"{FILE}: {error}") from error
