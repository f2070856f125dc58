import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from qwen3lab.checkpoints import safetensors_file as module
from qwen3lab.checkpoints.safetensors_reader import CheckpointReader, TensorsInMemory
from qwen3lab.checkpoints.tensor_names import StoredPart
from qwen3lab.checkpoints.value_range import ValueRange
from qwen3lab.errors import CheckpointError

A, B = torch.arange(6.0).reshape(2, 3), torch.ones(4)


def sharded(folder, weight_map, shards):
    for file, tensors in shards.items():
        save_file(tensors, folder / file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_a_single_file_gives_its_tensors(tmp_path):
    save_file({"a": A, "b": B}, tmp_path / "model.safetensors")
    weights = CheckpointReader(tmp_path)
    assert weights.names() == {"a", "b"}
    assert weights.shape("a") == (2, 3)
    assert weights.tensor("a").equal(A)


def test_shards_are_read_where_the_index_says(tmp_path):
    sharded(
        tmp_path,
        {"a": "one.safetensors", "b": "two.safetensors"},
        {"one.safetensors": {"a": A}, "two.safetensors": {"b": B}},
    )
    weights = CheckpointReader(tmp_path)
    assert weights.tensor("a").equal(A)
    assert weights.tensor("b").equal(B)


@pytest.mark.parametrize(
    "file", ["../one.safetensors", "/etc/one.safetensors", "sub/one.safetensors", "..", "a\\b"]
)
def test_an_index_that_points_outside_the_folder_is_refused(tmp_path, file):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"a": A}, tmp_path / "one.safetensors")
    sharded(folder, {"a": file}, {})
    with pytest.raises(CheckpointError, match=r"maps a to .* outside the model's folder"):
        CheckpointReader(folder)


@pytest.mark.parametrize(
    "file",
    ["a\x7f.safetensors", "a\x00.safetensors", "\ud800.safetensors", "a" * 250 + ".safetensors"],
)
def test_an_index_with_a_name_that_no_shard_has_is_refused_in_one_short_line(tmp_path, file):
    sharded(tmp_path, {"a": file}, {})
    with pytest.raises(CheckpointError, match=r"maps a to .*: expected the plain name") as e:
        CheckpointReader(tmp_path)
    assert len(str(e.value)) < 500 and str(e.value).isprintable()


def test_an_index_that_names_a_pickle_is_refused(tmp_path):
    sharded(tmp_path, {"a": "model.bin"}, {})
    with pytest.raises(CheckpointError, match=r"maps a to 'model.bin': expected a safetensors"):
        CheckpointReader(tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    sharded(tmp_path, {"a": "one.safetensors"}, {})
    with pytest.raises(CheckpointError, match=r"one.safetensors is missing"):
        CheckpointReader(tmp_path)


def test_a_tensor_missing_from_its_shard_is_named(tmp_path):
    sharded(
        tmp_path,
        {"a": "one.safetensors", "b": "one.safetensors"},
        {"one.safetensors": {"a": A}},
    )
    with pytest.raises(CheckpointError, match=r"maps b to one.safetensors, which does not hold it"):
        CheckpointReader(tmp_path)


def test_a_tensor_that_the_index_does_not_list_is_named(tmp_path):
    sharded(tmp_path, {"a": "one.safetensors"}, {"one.safetensors": {"a": A, "b": B}})
    with pytest.raises(CheckpointError, match=r"one.safetensors holds b, which"):
        CheckpointReader(tmp_path)


def test_a_tensor_in_two_shards_is_named(tmp_path):
    sharded(
        tmp_path,
        {"a": "one.safetensors", "b": "two.safetensors"},
        {"one.safetensors": {"a": A, "b": B + 1}, "two.safetensors": {"b": B}},
    )
    with pytest.raises(CheckpointError, match=r"one.safetensors holds b, .* to two.safetensors"):
        CheckpointReader(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": 3}', "{", "[" * 10**5])
def test_a_damaged_index_is_refused(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match="is not a valid index"):
        CheckpointReader(tmp_path)


@pytest.mark.parametrize("has_index", [False, True])
def test_a_whole_file_that_the_system_cannot_read_is_not_called_damaged(
    tmp_path, monkeypatch, has_index
):
    save_file({"a": A}, tmp_path / "model.safetensors")
    if has_index:
        (tmp_path / "model.safetensors").unlink()
        sharded(tmp_path, {"a": "one.safetensors"}, {"one.safetensors": {"a": A}})

    def fail(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(CheckpointError, match=r"cannot be read \(Too many open files\)$"):
        CheckpointReader(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 60, -8])
def test_a_truncated_file_is_named(tmp_path, keep):
    file = tmp_path / "model.safetensors"
    save_file({"a": A, "b": B}, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: keep if keep >= 0 else len(whole) + keep])
    with pytest.raises(CheckpointError, match=r"model.safetensors is truncated or damaged"):
        CheckpointReader(tmp_path)


def test_a_file_that_may_not_be_read_is_not_called_missing(tmp_path, monkeypatch):
    save_file({"a": A}, tmp_path / "model.safetensors")

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", deny)
    with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\)"):
        CheckpointReader(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.parametrize("file", ["model.safetensors", "model.safetensors.index.json"])
def test_a_pipe_in_place_of_weights_is_refused_at_once(tmp_path, file):
    os.mkfifo(tmp_path / file)
    with pytest.raises(CheckpointError, match=rf"{file} is not .*regular file"):
        CheckpointReader(tmp_path)


def test_a_long_name_of_a_file_is_quoted_in_one_short_line(tmp_path):
    name = "a\n" * 10**4
    sharded(tmp_path, {"b": "one.safetensors"}, {"one.safetensors": {"b": B, name: A}})
    with pytest.raises(CheckpointError, match=r"which .*index.json does not") as e:
        CheckpointReader(tmp_path)
    assert len(str(e.value)) < 500 and "\n" not in str(e.value)


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 300, 1000])
def test_a_value_that_is_not_finite_is_found_wherever_it_stands(value, kind, place):
    values = torch.linspace(-2, 2, 1001).to(kind)
    ValueRange("w", "a file").add(values)
    values[place] = value
    with pytest.raises(CheckpointError, match="w in a file has values that are not finite"):
        ValueRange("w", "a file").add(values)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_a_pickle_is_never_opened(tmp_path, name):
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(CheckpointError, match=f"{name}, a pickle file"):
        CheckpointReader(tmp_path)


def test_an_empty_folder_is_refused_with_the_expected_files(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no model.safetensors"):
        CheckpointReader(tmp_path)


@pytest.mark.parametrize("chunk", [8, 2**24])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stored", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_fill_copies_whole_tensors_and_single_entries(tmp_path, monkeypatch, stored, kind, chunk):
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk)
    one, many = (torch.randn(shape).to(stored) for shape in ((5, 3), (4, 2, 7)))
    save_file({"one": one, "other": B, "many": many}, tmp_path / "model.safetensors")
    weights = CheckpointReader(tmp_path)
    assert weights.dtype("one") == stored
    into = torch.full((5, 3), 9.0, dtype=kind), torch.full((2, 7), 9.0, dtype=kind)
    weights.fill([(into[0], StoredPart("one")), (into[1], StoredPart("many", 2))])
    assert into[0].equal(one.to(kind)) and into[1].equal(many[2].to(kind))


@pytest.mark.parametrize("read", ["fill", "tensor"])
def test_a_replaced_file_is_detected(tmp_path, read):
    file = tmp_path / "model.safetensors"
    save_file({"a": A}, file)
    weights = CheckpointReader(tmp_path)
    save_file({"a": A + 1}, tmp_path / "other")
    (tmp_path / "other").replace(file)
    with pytest.raises(CheckpointError, match=r"model.safetensors has changed since .* load"):
        weights.tensor("a") if read == "tensor" else weights.fill([(A.clone(), StoredPart("a"))])


def test_a_file_truncated_during_reading_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.arange(2.0**20)}, file)
    weights = CheckpointReader(tmp_path)
    bring = module.bring

    def bring_and_truncate(value, out):
        bring(value, out)
        os.truncate(file, 2**20)

    monkeypatch.setattr(module, "CHUNK_BYTES", 2**16)
    monkeypatch.setattr(module, "bring", bring_and_truncate)
    into = torch.empty(2**20, dtype=torch.bfloat16)
    with pytest.raises(CheckpointError, match=r"can no longer be read \(it ends too early\)"):
        weights.fill([(into, StoredPart("a"))])


def test_a_file_overwritten_during_reading_is_detected(tmp_path, monkeypatch):
    file = tmp_path / "model.safetensors"
    save_file({"a": A}, file)
    weights = CheckpointReader(tmp_path)
    monkeypatch.setattr(module, "bring", lambda value, out: file.write_bytes(b"0" * 99))
    with pytest.raises(CheckpointError, match="has changed since"):
        weights.fill([(torch.empty(2, 3, dtype=torch.bfloat16), StoredPart("a"))])


def test_an_integer_tensor_is_refused(tmp_path):
    save_file({"a": torch.ones(2, dtype=torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"a in .* is stored as I8: expected one of F64, F32"):
        CheckpointReader(tmp_path).dtype("a")


def test_tensors_of_a_model_in_memory_are_copies():
    tensors = {"a": A.clone()}
    copy = TensorsInMemory(tensors).tensor("a")
    copy += 1
    assert tensors["a"].equal(A)
