"""The stand-ins: narrow models with the words, layers and experts of published ones."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.model.transformer import Qwen3
from qwen3lab.text.tokenizer import open_tokenizer
from tests.standins import hub_files, lessons, training
from tests.standins.hub_files import DENSE, EXPERTS, write_folder
from tests.standins.made_once import made
from tests.standins.qwen_tokenizer import FILES
from tests.standins.training import train

NARROW = {"hidden_size": 64, "head_dim": 16}
NARROW_DENSE = DENSE | NARROW | {"intermediate_size": 192}
NARROW_EXPERTS = EXPERTS | NARROW | {"intermediate_size": 192, "moe_intermediate_size": 24}
THINKS = DENSE | {
    "hidden_size": 128,
    "head_dim": 32,
    "intermediate_size": 384,
    "max_window_layers": 3,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
}
SOURCES = tuple(str(module.__file__) for module in (hub_files, lessons, training))
"""The files that decide the content of a stand-in, beside this one."""
AT_ONCE = "{{- '<think>\\n\\n</think>\\n\\n' }}\n"
"""The line of the published template that closes the thinking at once."""
OPENED = "    {%- else %}\n        {{- '<think>\\n' }}\n"
"""Lines after it by which the prompt opens the thinking, as in Qwen3-*-Thinking-2507."""
WEIGHT_STD = 0.15
"""Of random matrices, so that heads and routers choose: at 0.02 all would be nearly uniform."""


def random_dense(tokenizer_folder: Path, folder: Path) -> None:
    """28 layers of Qwen3-0.6B's heads and words, narrow, with random weights."""
    _write_random(NARROW_DENSE, tokenizer_folder, folder)


def random_experts(tokenizer_folder: Path, folder: Path) -> None:
    """48 layers of 128 experts as in Qwen3-30B-A3B, narrow, with random weights."""
    _write_random(NARROW_EXPERTS, tokenizer_folder, folder)


def thinks_in_sentences(tokenizer_folder: Path, folder: Path) -> None:
    """A small dense model that was trained on chats, so it thinks and answers in sentences."""
    model = train(Qwen3Config.from_dict(THINKS), open_tokenizer(tokenizer_folder))
    write_folder(model, THINKS, tokenizer_folder, folder)


MAKERS: dict[str, Callable[[Path, Path], None]] = {
    "dense-28": random_dense,
    "experts-48x128": random_experts,
    "thinks": thinks_in_sentences,
}


def standin(name: str, tokenizer_folder: Path, within: Path) -> Path:
    """The folder of a stand-in inside `within`; made if it is not there."""
    template = json.loads((tokenizer_folder / FILES[1]).read_text("utf-8"))["chat_template"]
    make = partial(MAKERS[name], tokenizer_folder)
    return made(name, make, within, depends_on=(__file__, *SOURCES), texts=(template,))


def _write_random(fields: dict[str, object], tokenizer_folder: Path, folder: Path) -> None:
    """The thinking of random weights is noise; the prompt opens it, and only a budget ends it."""
    model = Qwen3(Qwen3Config.from_dict(fields))
    model.init_weights(torch.Generator().manual_seed(0), std=WEIGHT_STD)
    write_folder(model, fields, tokenizer_folder, folder)
    path = folder / FILES[1]
    settings = json.loads(path.read_text("utf-8"))
    template = settings["chat_template"]
    assert template.count(AT_ONCE) == 1
    settings["chat_template"] = template.replace(AT_ONCE, AT_ONCE + OPENED)
    path.write_text(json.dumps(settings, ensure_ascii=False, indent=2), encoding="utf-8")
