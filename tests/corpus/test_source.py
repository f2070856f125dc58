import json

import pyarrow
import pyarrow.parquet
import pytest

from qwen3lab.corpus.source import open_source
from qwen3lab.errors import CorpusError

ROWS = [{"text": f"text {n}", "kind": str(n % 2), "n": n} for n in range(10)]


def read(source, columns=("text", "kind")):
    return [row for part in source.parts for row in source.rows(part, columns)]


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


@pytest.mark.parametrize("part_rows", [1, 3, 10, 11])
def test_json_lines_are_read_in_parts(lines, part_rows):
    source = open_source(lines, ["text"], part_rows=part_rows)
    assert read(source) == list(enumerate(ROWS))
    assert source.n_rows == len(ROWS)
    assert all(part.n_rows <= part_rows for part in source.parts)


def test_a_line_that_is_no_row_is_named_and_the_others_are_kept(lines):
    text = lines.read_text().replace(json.dumps(ROWS[4]), "{oops\n\n")
    lines.write_text(text + "[1]\n")
    found = read(open_source(lines, ["text"], part_rows=3))
    assert "is not JSON" in found[4][1]
    assert found[10][1] == "the line is no JSON object"
    assert [row for n, row in found if n not in (4, 10)] == [*ROWS[:4], *ROWS[5:]]


@pytest.mark.parametrize("part_rows", [1, 3, 4, 20])
def test_parquet_is_read_in_parts_across_row_groups(tmp_path, part_rows):
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path, row_group_size=4)
    source = open_source(path, ["text", "kind"], part_rows=part_rows)
    expected = [{"text": row["text"], "kind": row["kind"]} for row in ROWS]
    assert read(source) == list(enumerate(expected))


def test_a_parquet_file_without_the_column_is_refused_with_its_columns(tmp_path):
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    with pytest.raises(CorpusError, match="no column 'body': its columns are text, kind, n"):
        open_source(path, ["body"], part_rows=3)


def test_each_file_of_a_folder_of_texts_is_a_row(tmp_path):
    for n in range(5):
        (tmp_path / f"{n}.txt").write_text(f"text {n}")
    (tmp_path / "3.txt").write_bytes(b"\xff")
    found = read(open_source(tmp_path, ["text"], part_rows=2))
    assert found[3] == (3, "3.txt is not UTF-8 text (invalid start byte at byte 1)")
    assert [row["text"] for n, row in found if n != 3] == ["text 0", "text 1", "text 2", "text 4"]


def test_rows_in_memory_are_stored_once_and_compared(tmp_path):
    source = open_source(["a", "b"], ["text"], part_rows=2, store_in=tmp_path)
    assert read(source) == [(0, {"text": "a"}), (1, {"text": "b"})]
    assert open_source(["a", "b"], ["text"], part_rows=2, store_in=tmp_path) == source
    with pytest.raises(CorpusError, match="holds other rows"):
        open_source(["a", "c"], ["text"], part_rows=2, store_in=tmp_path)
    assert read(source)[1] == (1, {"text": "b"})
    assert [path.name for path in tmp_path.iterdir()] == ["source.jsonl"]


def test_a_row_that_is_no_json_value_is_refused_and_leaves_no_file(tmp_path):
    with pytest.raises(CorpusError, match="a row in memory is no JSON value"):
        open_source(iter(["a", {"text": object()}]), ["text"], part_rows=2, store_in=tmp_path)
    assert not list(tmp_path.iterdir())


class DataSet:
    """The method of a data set of Hugging Face, and of a table of pandas, that is used."""

    def to_parquet(self, path):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


def test_a_data_set_in_memory_is_stored_as_parquet(tmp_path):
    source = open_source(DataSet(), ["text", "kind"], part_rows=4, store_in=tmp_path)
    assert [row["text"] for _, row in read(source)] == [row["text"] for row in ROWS]
    assert [path.name for path in tmp_path.iterdir()] == ["source.parquet"]


def test_a_file_that_changed_has_another_digest_and_one_that_was_cut_is_refused(lines):
    source = open_source(lines, ["text"], part_rows=4)
    lines.write_text(lines.read_text().replace("text 1", "text 7"))
    assert open_source(lines, ["text"], part_rows=4).digest != source.digest
    lines.write_text("")
    with pytest.raises(CorpusError, match=r"rows 4 to 7 of .* cannot be read"):
        list(source.rows(source.parts[1], ["text"]))


def test_what_is_no_data_set_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text\n")
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "none").mkdir()
    for wrong in ("absent.jsonl", "a.csv", "none"):
        with pytest.raises(CorpusError, match="is no data set"):
            open_source(tmp_path / wrong, ["text"], part_rows=4)
    with pytest.raises(CorpusError, match="has no rows"):
        open_source(tmp_path / "empty.jsonl", ["text"], part_rows=4)
    with pytest.raises(CorpusError, match="one of its splits"):
        open_source({"train": ROWS}, ["text"], part_rows=4, store_in=tmp_path)
    with pytest.raises(CorpusError, match="of type int"):
        open_source(3, ["text"], part_rows=4, store_in=tmp_path)
