"""Safetensors files are read without mapping them, as the safetensors library reads them."""

import hashlib
import json
import os
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file, save_file

from qwen3lab.storage.checked_tensors import open_tensors, read_tensors, save_checked
from qwen3lab.storage.tensor_header import DTYPES, OTHER_BITS
from tests.fuzz.mutations import byte_mutations, json_mutations

TENSORS = {
    "rows": torch.arange(12.0).view(3, 4),
    "none": torch.zeros(0, 5),
    "one": torch.tensor(7, dtype=torch.int16),
    "half": torch.tensor([[1.5], [-0.0]], dtype=torch.bfloat16),
    "flags": torch.tensor([True, False, True]),
}


def file_of(header, body):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def parts_of(content):
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "file"
    save_file(TENSORS, path, metadata={"a": "b"})
    return path.read_bytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "file"


def same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype and value.shape == other[name].shape
        bits = [each.contiguous().flatten().view(torch.uint8) for each in (value, other[name])]
        assert torch.equal(*bits)


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_every_dtype_is_read_as_the_library_reads_it(tmp_path, dtype):
    value = torch.arange(-3, 3).view(2, 3).to(DTYPES[dtype])
    save_file({"x": value, "y": value[:1].clone()}, tmp_path / "file")
    same(read_tensors(tmp_path / "file"), load_file(tmp_path / "file"))


@pytest.mark.parametrize("dtype", sorted(OTHER_BITS))
def test_a_tensor_of_another_dtype_is_listed_and_not_read(tmp_path, dtype):
    n_bytes = 8 * OTHER_BITS[dtype] // 8
    entry = {"dtype": dtype, "shape": [8], "data_offsets": [0, n_bytes]}
    (tmp_path / "file").write_bytes(file_of({"x": entry}, bytes(n_bytes)))
    with safe_open(tmp_path / "file", framework="pt") as file:
        assert file.get_slice("x").get_dtype() == dtype
    with open_tensors(tmp_path / "file") as file:
        assert file.stored["x"].code == dtype and file.stored["x"].shape == (8,)
        with pytest.raises(ValueError, match=f"dtype {dtype} is unknown"):
            file.read("x")


def check_like_the_library(path, content):
    """What the library refuses is refused; what is read, the library reads alike."""
    path.write_bytes(content)
    try:
        mine = read_tensors(path)
    except (ValueError, OSError):
        return
    try:
        with safe_open(path, framework="pt") as file:
            assert set(file.keys()) == set(mine)
        same(mine, load(content))
    except SafetensorError as error:
        raise AssertionError(f"the library refuses it: {error}") from error


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(change=byte_mutations(0.7))
def test_damaged_bytes_are_read_as_by_the_library_or_refused(content, path, change):
    check_like_the_library(path, change(content))


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_changed_headers_are_read_as_by_the_library_or_refused(content, path, data):
    header, body = parts_of(content)
    check_like_the_library(path, file_of(data.draw(json_mutations(header)), body))


@pytest.mark.parametrize(
    "text",
    [
        b'{"x": {"dtype": "U8", "shape": [NaN], "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "U8", "shape": [4.0], "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "U8", "shape": [true, 4], "data_offsets": [0, 4]}}',
        b'{"\\ud800": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}',
        b'{"\xff": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "U8", "shape": "4", "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "U8", "shape": [-4], "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4, 8]}}',
        b'{"x": {"dtype": ["U8"], "shape": [4], "data_offsets": [0, 4]}}',
        b'{"x": 4}',
        b"[" * 100_000,
        b"[]",
        b"4.0",
        b'{"__metadata__": {"a": 1}}',
        b'{"__metadata__": []}',
        b"{}",
    ],
)
def test_headers_that_the_library_refuses_are_refused(path, text):
    content = struct.pack("<Q", len(text)) + text + bytes(4)
    with pytest.raises(SafetensorError):
        load(content)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"header|entry|metadata|end at byte"):
        read_tensors(path)


@pytest.mark.parametrize("length", [0, 1, 2**40, 2**64 - 1])
def test_a_length_of_the_header_beyond_the_file_is_refused_without_reading_it(path, length):
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(ValueError, match=f"its header of {length} bytes does not fit"):
        read_tensors(path)


def test_a_name_that_occurs_twice_is_refused(path):
    entry = b'"x": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}'
    text = b"{" + entry + b", " + entry + b"}"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(2))
    with pytest.raises(ValueError, match="a name occurs twice"):
        read_tensors(path)


@pytest.mark.parametrize("by_row", [False, True])
def test_files_with_checksums_are_read_by_the_library_and_here(tmp_path, by_row):
    tensors = {name: value for name, value in TENSORS.items() if value.ndim or not by_row}
    save_checked(tensors, tmp_path / "file", {"about": "this"}, by_row=by_row)
    same(load_file(tmp_path / "file"), tensors)
    with open_tensors(tmp_path / "file") as file:
        assert file.has_checksums and file.metadata == {"about": "this"}
        same({name: file.read(name, by_row=by_row) for name in file.stored}, tensors)


def test_a_row_is_read_and_checked_alone(tmp_path):
    save_checked({"rows": TENSORS["rows"]}, tmp_path / "file", {}, by_row=True)
    content = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with open_tensors(tmp_path / "file") as file:
        assert file.read_row("rows", 1).tolist() == [4, 5, 6, 7]
        for read in (lambda: file.read_row("rows", 2), lambda: file.read("rows", by_row=True)):
            with pytest.raises(ValueError, match="rows has other values than were saved"):
                read()
        for row in (3, -1):
            with pytest.raises(ValueError, match=f"rows of shape .* has no row {row}"):
                file.read_row("rows", row)


def test_rows_that_changed_places_are_refused(tmp_path):
    save_checked({"rows": TENSORS["rows"]}, tmp_path / "file", {}, by_row=True)
    header, body = parts_of((tmp_path / "file").read_bytes())
    (tmp_path / "file").write_bytes(file_of(header, body[16:32] + body[:16] + body[32:]))
    with open_tensors(tmp_path / "file") as file:
        assert file.read_row("rows", 2).tolist() == [8, 9, 10, 11]
        with pytest.raises(ValueError, match="rows has other values"):
            file.read_row("rows", 0)


def test_a_file_that_is_cut_while_it_is_open_is_an_error(tmp_path):
    save_file({"x": torch.zeros(1000)}, tmp_path / "file")
    with open_tensors(tmp_path / "file") as file:
        os.truncate(tmp_path / "file", 300)
        with pytest.raises(OSError, match="it ends too early"):
            file.read("x")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_no_file_is_mapped(tmp_path):
    save_checked(TENSORS, tmp_path / "file", {})
    with open_tensors(tmp_path / "file") as file:
        value = file.read("rows")
        assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert torch.equal(value, TENSORS["rows"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_and_a_folder_are_refused_without_reading_them(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(OSError, match="it is not a regular file"):
            read_tensors(path)


@pytest.mark.parametrize("digests", ["[]", '{"x": 3}', "[" * 100_000, '{"x": []}', '{"y": []}'])
def test_checksums_of_another_form_are_refused(tmp_path, digests):
    text = json.dumps({"digests": digests}, sort_keys=True)
    seal = hashlib.sha256(text.encode()).hexdigest()
    metadata = {"digests": digests, "sha256": seal}
    save_file({"x": torch.ones(2)}, tmp_path / "file", metadata=metadata)
    with pytest.raises(ValueError, match=r"checksums|other values|not those that were saved"):
        read_tensors(tmp_path / "file")
