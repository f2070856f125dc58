"""What a model's `generation_config.json` says about its replies: end tokens and sampling."""

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from qwen3lab.errors import ConfigError
from qwen3lab.generation.sampling import Sampling

FILE = "generation_config.json"
SAMPLING_FIELDS = ("temperature", "top_k", "top_p", "min_p")
NEUTRAL = {
    "repetition_penalty": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
    "typical_p": 1,
    "epsilon_cutoff": 0,
    "eta_cutoff": 0,
    "guidance_scale": 1,
    "suppress_tokens": (),
    "bad_words_ids": (),
}
"""Fields that change what transformers draws and that are not implemented, with no effect at these
values."""


@dataclass(frozen=True)
class ReplyDefaults:
    """Defaults of a model's replies.

    Attributes:
        ends: token ids that end a reply, besides those of the tokenizer.
        published: the sampling of the file; None if it names none.
    """

    ends: frozenset[int] = frozenset()
    published: Sampling | None = None

    @classmethod
    def from_folder(cls, folder: Path) -> "ReplyDefaults":
        """Read a model folder's `generation_config.json`; without the file, no defaults.

        Raises:
            ConfigError: the file is damaged, or a value is outside its range.
        """
        file = folder / FILE
        if file.exists() and not file.is_file():  # Reading a pipe would block.
            raise ConfigError(f"{file} is not a regular file: expected JSON")
        try:
            fields = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{file} is not readable JSON ({error})") from error
        if not isinstance(fields, dict):
            raise ConfigError(f"{file} holds {shown(fields)}: expected an object")
        return cls.from_fields(fields)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "ReplyDefaults":
        """Read the fields of a generation config; warns of those that are not implemented.

        Raises:
            ConfigError: a value outside its range.
        """
        unused = [
            f"{name}={shown(fields[name])}"
            for name, neutral in NEUTRAL.items()
            if fields.get(name) not in (None, neutral, list(neutral) if neutral == () else neutral)
        ]
        if unused:
            warnings.warn(f"{FILE} sets {', '.join(unused)}: replies ignore it", stacklevel=2)
        return cls(_ends(fields.get("eos_token_id")), _sampling(fields))

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


def _ends(value: Any) -> frozenset[int]:
    listed = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(token, int) and not isinstance(token, bool) for token in listed):
        raise ConfigError(f"{FILE} gives eos_token_id as {shown(value)}: expected token ids")
    return frozenset(listed)


def _sampling(fields: Mapping[str, Any]) -> Sampling | None:
    """The sampling that transformers reads from the fields; missing ones take its defaults."""
    if fields.get("do_sample") is False:
        return Sampling.greedy()
    given = {name: fields[name] for name in SAMPLING_FIELDS if fields.get(name) is not None}
    for name, value in given.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ConfigError(f"{FILE} gives {name} as {shown(value)}: expected a number")
    if not given:
        return None
    top_k = given.get("top_k", 50)
    if not math.isfinite(top_k) or top_k != int(top_k):
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
