"""Damaged folders of recordings: each gives the values that were recorded, or a refusal."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st

from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Qwen3
from qwen3lab.recording.recording import Recording
from tests.fuzz.cases import fuzz, refusable
from tests.fuzz.mutations import byte_mutations, json_mutations
from tests.reference import small_config

PROMPTS, OPTIONS = ["3+4=?", "7"], {"capture": ["blocks.0.mlp.*", "hook_embed"], "progress": False}
NAMES = [
    "plan.json",
    *(f"{name}.safetensors" for name in ("stream", "embed", "outer", "layer-000", "layer-001")),
    *(f"logits-{row:05}.safetensors" for row in range(len(PROMPTS))),
]


class Odd(Enum):
    """What can stand in place of a file."""

    FOLDER = "folder"
    PIPE = "pipe"
    DANGLING = "link to nowhere"
    LOOP = "link to itself"


Folder = dict[str, bytes | Odd]
Change = Callable[[Folder], Folder]


def small_lab(tokenizer: Any, seed: int) -> Lab:
    model = Qwen3(small_config(d_vocab=len(tokenizer), n_layers=2, moe_layers=(0, 1)))
    model.init_weights(torch.Generator().manual_seed(seed), std=0.2)
    return Lab(model, tokenizer, "small")


@pytest.fixture(scope="module")
def lab(tiny_tokenizer) -> Lab:
    return small_lab(tiny_tokenizer, 0)


def record(lab: Lab, folder: Path, prompts=PROMPTS, **changes: Any) -> list[Recording]:
    return lab.record_to_disk(prompts, folder, **(OPTIONS | changes))


def content_of(folder: Path) -> Folder:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("disk") / "run"


@pytest.fixture(scope="module")
def intact(lab, folder) -> Folder:
    record(lab, folder)
    assert set(content_of(folder)) == set(NAMES)
    return content_of(folder)


@pytest.fixture(scope="module")
def expected(lab, tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    recordings = record(lab, tmp_path_factory.mktemp("expected") / "run")
    return [{name: each.raw(name) for name in each.capture} for each in recordings]


@pytest.fixture(scope="module")
def others(lab, tiny_tokenizer, tmp_path_factory) -> list[Folder]:
    """Folders of other prompts, other weights, another dtype and another capture."""
    root = tmp_path_factory.mktemp("others")
    record(lab, root / "prompts", ["4+3=?", "8"])
    record(small_lab(tiny_tokenizer, 1), root / "weights")
    record(lab, root / "dtype", dtype="float16")
    record(lab, root / "capture", capture=["blocks.0.mlp.*"])
    return [content_of(each) for each in sorted(root.iterdir())]


def damaged(name: str, change: Callable[[bytes], bytes]) -> Change:
    return lambda files: {**files, name: change(files[name])}


def without(names: list[str]) -> Change:
    return lambda files: {name: each for name, each in files.items() if name not in names}


def copied(source: str, target: str) -> Change:
    return lambda files: {**files, target: files[source]}


def swapped(one: str, other: str) -> Change:
    return lambda files: {**files, one: files[other], other: files[one]}


def replaced(name: str, odd: Odd) -> Change:
    return lambda files: {**files, name: odd}


def interrupted(change: Change) -> Change:
    """The folder of a run that ended after the first layer, with a change."""
    later = ["layer-001.safetensors", *NAMES[-len(PROMPTS) :]]
    return lambda files: {n: each for n, each in change(files).items() if n not in later}


@st.composite
def changes(draw: Any, intact: Folder, others: list[Folder]) -> Change:
    """A change of the files of a folder."""
    name, other = (draw(st.sampled_from(NAMES)) for _ in range(2))
    kinds = ["bytes", "header", "header", "plan", "remove", "copy", "swap", "foreign", "odd"]
    kind = draw(st.sampled_from(kinds))
    if kind == "bytes":
        change = damaged(name, draw(byte_mutations(draw(st.sampled_from([0.2, 1.0])))))
    elif kind == "header":
        name = draw(st.sampled_from(NAMES[1:]))
        change = with_header(name, draw(json_mutations(header_of(intact[name])[0])))
    elif kind == "plan":
        text = json.dumps(draw(json_mutations(json.loads(intact["plan.json"]))))
        change = damaged("plan.json", lambda _: text.encode())
    elif kind == "foreign":
        content = draw(st.sampled_from(others))[name]
        change = damaged(name, lambda _: content)
    else:
        change = {
            "remove": without(draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3))),
            "copy": copied(name, draw(st.sampled_from([other, "layer-002.safetensors", "x"]))),
            "swap": swapped(name, other),
            "odd": replaced(name, draw(st.sampled_from(Odd))),
        }[kind]
    return interrupted(change) if draw(st.booleans()) else change


def header_of(content: Any) -> tuple[Any, bytes]:
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(name: str, header: Any) -> Change:
    text = json.dumps(header).encode()
    start = struct.pack("<Q", len(text)) + text
    return damaged(name, lambda content: start + header_of(content)[1])


def write(folder: Path, files: Folder) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        path = folder / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is Odd.FOLDER:
            path.mkdir()
        elif content is Odd.PIPE:
            os.mkfifo(path)
        else:
            path.symlink_to(path if content is Odd.LOOP else folder / "nowhere")


def check_values(folder, recordings: list[Recording], expected) -> None:
    """Each value is what was recorded, bit for bit, or is refused."""
    for recording, values in zip(recordings, expected, strict=True):
        assert recording.capture == tuple(values)
        for name, value in values.items():
            with refusable() as outcome:
                outcome.value = recording.raw(name)
            if outcome.refusal is None:
                same = outcome.value.dtype == value.dtype and outcome.value.equal(value)
                assert same, f"{name} differs"
            else:
                assert str(folder) in outcome.refusal and name in outcome.refusal


@fuzz("disk_folders", 0.4)
@given(data=st.data())
def test_a_folder_that_changes_while_it_is_open(lab, folder, intact, others, expected, data):
    change = data.draw(changes(intact, others))
    write(folder, intact)
    recordings = record(lab, folder)
    write(folder, change(intact))
    check_values(folder, recordings, expected)


@fuzz("disk_folders", 0.6)
@given(data=st.data())
def test_a_folder_that_changed_before_it_is_opened(lab, folder, intact, others, expected, data):
    write(folder, data.draw(changes(intact, others))(intact))
    with refusable() as outcome:
        outcome.value = record(lab, folder)
    if outcome.refusal is None:
        check_values(folder, outcome.value, expected)
    else:
        assert str(folder) in outcome.refusal
