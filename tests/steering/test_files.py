"""Files of steering vectors: what is written is read, by the gguf package and repeng's way, too."""

import json
import os
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from qwen3lab import VectorError, steering
from qwen3lab.steering import Addition, Vector


@pytest.fixture
def vector():
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(3, 33, generator=generator)
    additions = (
        Addition(1, directions[0]),
        Addition(2, directions[1], "hook_mlp_out"),
        Addition(4, directions[2]),
    )
    return Vector(additions, "by hand, with <b> and \x07", "a/model", "f" * 64)


@pytest.fixture
def plain(vector):
    return vector.at(hook="hook_resid_post")


def test_a_vector_is_read_as_it_was_written(vector, tmp_path):
    steering.save(vector, tmp_path / "a.safetensors")
    assert steering.load(tmp_path / "a.safetensors") == vector
    stored = load_file(tmp_path / "a.safetensors")
    assert torch.equal(stored["blocks.2.hook_mlp_out"], vector[2])


def test_the_gguf_package_reads_what_is_written(plain, tmp_path):
    gguf = pytest.importorskip("gguf")
    steering.save_gguf(plain, tmp_path / "a.gguf", model_hint="qwen3_moe")
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    texts = {
        name: bytes(reader.get_field(name).parts[-1]).decode()
        for name in ("general.architecture", "controlvector.model_hint")
    }
    assert texts == {
        "general.architecture": "controlvector",
        "controlvector.model_hint": "qwen3_moe",
    }
    assert int(reader.get_field("controlvector.layer_count").parts[-1][0]) == 3
    assert {tensor.name for tensor in reader.tensors} == {f"direction.{n}" for n in (1, 2, 4)}
    for tensor in reader.tensors:
        layer = int(tensor.name.split(".")[1])
        assert np.array_equal(tensor.data, plain[layer].numpy())


def test_what_repeng_writes_is_read(plain, tmp_path):
    """The calls of repeng's `export_gguf`."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "b.gguf", "controlvector")
    writer.add_string("controlvector.model_hint", "qwen3")
    writer.add_uint32("controlvector.layer_count", 3)
    for layer in (4, 1, 2):  # repeng counts down from the last layer.
        writer.add_tensor(f"direction.{layer}", plain[layer].numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = steering.load_gguf(tmp_path / "b.gguf")
    assert found.additions == plain.additions
    assert found.model_name == "qwen3" and "b.gguf" in found.made_by


def test_a_gguf_file_is_laid_out_as_the_format_says(tmp_path):
    """By hand: magic, version 3, one tensor, three values; then the vector at a multiple of 32."""
    vector = Vector((Addition(7, torch.tensor([1.5, -2.0])),), "by hand")
    steering.save_gguf(vector, tmp_path / "a.gguf")
    content = (tmp_path / "a.gguf").read_bytes()
    assert content[:24] == b"GGUF" + struct.pack("<IQQ", 3, 1, 3)
    assert content[-32:-24] == struct.pack("<2f", 1.5, -2.0) and len(content) % 32 == 0
    assert steering.load_gguf(tmp_path / "a.gguf").additions == vector.additions


@pytest.mark.parametrize("kind", ["safetensors", "gguf"])
def test_a_file_that_is_cut_short_anywhere_is_refused(plain, tmp_path, kind):
    save, load = {
        "safetensors": (steering.save, steering.load),
        "gguf": (steering.save_gguf, steering.load_gguf),
    }[kind]
    save(plain, tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    for length in [*range(0, len(content) - 32, 7), len(content) - 125]:
        (tmp_path / "part").write_bytes(content[:length])
        with pytest.raises(VectorError, match="holds no steering vector"):
            load(tmp_path / "part")


def test_a_changed_byte_of_our_own_file_is_found(plain, tmp_path):
    steering.save(plain, tmp_path / "a")
    content = bytearray((tmp_path / "a").read_bytes())
    for place in range(8, len(content), 11):
        changed = content.copy()
        changed[place] ^= 1
        (tmp_path / "b").write_bytes(changed)
        with pytest.raises(VectorError, match="holds no steering vector"):
            steering.load(tmp_path / "b")


def test_any_damage_of_a_gguf_file_gives_a_vector_or_one_sentence(plain, tmp_path):
    steering.save_gguf(plain, tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    chance = np.random.default_rng(0)
    n_refused = 0
    for _ in range(300):
        changed = bytearray(content)
        for place in chance.integers(0, 260, size=3):
            changed[place] = int(chance.integers(0, 256))
        (tmp_path / "b").write_bytes(changed)
        try:
            steering.load_gguf(tmp_path / "b")
        except VectorError as error:
            n_refused += 1
            assert "\n" not in str(error) and len(str(error)) < 600
    assert n_refused > 100


@pytest.mark.parametrize(
    ("tensors", "about", "message"),
    [
        ({"a": torch.ones(2)}, None, "something else"),
        ({"blocks.0.hook_resid_post": torch.ones(2)}, {"kind": "steering vector"}, "else"),
    ],
)
def test_other_safetensors_files_are_refused(tmp_path, tensors, about, message):
    metadata = None if about is None else {"qwen3lab": json.dumps(about)}
    save_file(tensors, tmp_path / "a", metadata=metadata)
    with pytest.raises(VectorError, match=message):
        steering.load(tmp_path / "a")


def gguf_bytes(names, *, architecture="controlvector", values=(1.0, 2.0), kind=0):
    """A GGUF file by hand."""

    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, len(names), 1)
    head += text("general.architecture") + struct.pack("<I", 8) + text(architecture)
    for place, name in enumerate(names):
        head += text(name) + struct.pack("<IQIQ", 1, len(values), kind, 32 * place)
    body = struct.pack(f"<{len(values)}f", *values).ljust(32, b"\0") * len(names)
    return head.ljust(-(-len(head) // 32) * 32, b"\0") + body


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gguf_bytes(["direction.1"], architecture="llama"), "its architecture is not"),
        (gguf_bytes([]), "holds no direction"),
        (gguf_bytes(["direction.../../etc/passwd"]), "names no layer and hook"),
        (gguf_bytes(["direction.-1"]), "names no layer and hook"),
        (gguf_bytes(["direction.1"], kind=1), "expected 0, float32"),
        (gguf_bytes(["direction.1"], values=(1.0, float("nan"))), "NaN or infinite"),
        (b"GGML" + bytes(40), "does not start with GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**62, 2**62), "ends too early"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "little-endian"),
    ],
)
def test_other_gguf_files_are_refused(tmp_path, content, message):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(VectorError, match=message):
        steering.load_gguf(tmp_path / "a")


def test_a_gguf_file_by_hand_is_read(tmp_path):
    (tmp_path / "a").write_bytes(gguf_bytes(["direction.3", "direction.0"]))
    found = steering.load_gguf(tmp_path / "a")
    assert found.layers == (0, 3) and found[3].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("load", [steering.load, steering.load_gguf])
def test_what_is_no_file_is_refused(tmp_path, load):
    with pytest.raises(VectorError, match="does not exist: give a file that"):
        load(tmp_path / "none")
    with pytest.raises(VectorError, match="not a regular file"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(VectorError, match="not a regular file"):
        load(tmp_path / "pipe")


def test_a_vector_that_a_file_cannot_hold_is_refused(vector, plain, tmp_path):
    with pytest.raises(VectorError, match="is for tokens 1 only"):
        steering.save(vector.at(positions=1), tmp_path / "a")
    with pytest.raises(VectorError, match="this vector to hook_mlp_out"):
        steering.save_gguf(vector, tmp_path / "a")
    with pytest.raises(VectorError, match="no direction for layer 0"):
        steering.save_gguf(plain.at(layers=1).at(layers=0), tmp_path / "a")
    with pytest.raises(VectorError, match="cannot be written"):
        steering.save_gguf(plain, tmp_path / "no folder" / "a")
    assert list(tmp_path.iterdir()) == []


def test_save_is_found_where_another_package_gives_every_object_a_save():
    """As nnsight does: a name that a module looks up lazily comes after those of all objects."""
    assert vars(steering)["save"].__module__ == "qwen3lab.steering.files"
