"""The class board: what students share is shown as text, and hostile files are left out."""

import json
import os
from pathlib import Path

import pytest

import qwen3lab
from qwen3lab.errors import StorageError
from qwen3lab.widgets import ClassBoard, Workbench
from qwen3lab.widgets.classroom import answers as module
from qwen3lab.widgets.classroom.answers import (
    MAX_BYTES,
    Answer,
    AnswerFolder,
    check_name,
    path_of,
    write_answer,
)


def answer(name: str = "Li", **values) -> Answer:
    usual = {
        "question": "2+3*4=?",
        "answer": "20",
        "thinking": True,
        "thinking_tokens": 22,
        "model": "tiny-moe",
        "stop": "natural",
    }
    return Answer(name, **(usual | values))


@pytest.fixture
def board(tmp_path):
    board = ClassBoard(tmp_path, every=0)
    yield board
    board.close()


def test_answers_stand_side_by_side_with_what_is_right_from_left_to_right(board, tmp_path):
    write_answer(tmp_path, answer("Li"))
    write_answer(tmp_path, answer("Ann", answer="14", thinking=False, thinking_tokens=0))
    write_answer(tmp_path, answer("Zoe", question="hello", answer="I only know my small world"))
    board.refresh()
    assert [(each.name, each.verdict) for each in board.answers] == [
        ("Ann", "wrong"),
        ("Li", "right"),
        ("Zoe", "not checked"),
    ]
    shown = board.table.value
    assert shown.index("Ann") < shown.index("Li") < shown.index("Zoe")
    assert "no thinking" in shown and ">22</td>" in shown
    assert board.summary.value == "3 students: 1 right, 1 wrong, 1 not checked"


def test_a_further_answer_takes_the_place_of_the_one_before(board, tmp_path):
    write_answer(tmp_path, answer(answer="14"))
    board.refresh()
    write_answer(tmp_path, answer(answer="twenty"))
    board.refresh()
    assert [each.answer for each in board.answers] == ["twenty"]
    assert "14" not in board.table.value and len(list(tmp_path.iterdir())) == 1


def test_what_students_wrote_is_escaped(board, tmp_path):
    script = "<img src=x onerror=alert(1)>"
    write_answer(tmp_path, answer(script, question=script, answer=script))
    board.refresh()
    assert script not in board.table.value
    assert board.table.value.count("&lt;img") == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "left out"),
        (b"[" * 9000, "left out"),
        (b"\xff\xfe", "left out"),
        (b"x" * (MAX_BYTES + 1), "bytes, and an answer has at most"),
        (b'{"name": "Li"}', "this is no Answer"),
        (json.dumps(vars(answer(answer="a" * 1501))).encode(), "its answer is too long"),
        (json.dumps(vars(answer(thinking_tokens=-1))).encode(), "of another format"),
        (json.dumps(vars(answer()) | {"thinking_tokens": "22"}).encode(), "this is no Answer"),
        (json.dumps(vars(answer("../../Li"))).encode(), "another student's file"),
        (json.dumps(vars(answer("L\ni"))).encode(), "printable characters"),
        (json.dumps(vars(answer("Ann"))).encode(), "another student's file"),
    ],
)
def test_a_file_that_is_no_answer_is_left_out_with_a_sentence(board, tmp_path, content, said):
    write_answer(tmp_path, answer("Zoe"))
    path_of(tmp_path, "Li").write_bytes(content)
    board.refresh()
    assert [each.name for each in board.answers] == ["Zoe"]
    (sentence,) = board.refused
    assert said in sentence and path_of(tmp_path, "Li").name in sentence
    assert 'role="alert"' in board.problem.value


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs links and pipes")
def test_links_pipes_and_folders_are_left_out_unread(tmp_path):
    (tmp_path / "class").mkdir()
    secret = write_answer(tmp_path, answer("Li", answer="a secret of the teacher"))
    (tmp_path / "class" / secret.name).symlink_to(secret)
    os.mkfifo(tmp_path / "class" / "pipe.answer.json")
    (tmp_path / "class" / "folder.answer.json").mkdir()
    found, refused = AnswerFolder(tmp_path / "class").read()
    assert found == [] and len(refused) == 3
    assert all("no plain file" in each for each in refused)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "C:\\x", "..", "小明", "con"])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    (tmp_path / "class").mkdir()
    path = write_answer(tmp_path / "class", answer(name))
    assert path.parent == tmp_path / "class" and path.stem.isascii()
    assert [each.name for each in tmp_path.iterdir()] == ["class"]


@pytest.mark.parametrize("name", ["", "  ", "a" * 41, "a\x1b[0m"])
def test_a_name_that_cannot_be_shown_is_refused(name):
    with pytest.raises(StorageError, match="expected 1 to 40 printable characters"):
        check_name(name)


def test_of_a_thousand_files_only_those_that_changed_are_read_again(tmp_path, monkeypatch):
    for number in range(1000):
        write_answer(tmp_path, answer(f"student {number:04}"))
    read, usual = [], module._checked
    monkeypatch.setattr(module, "_checked", lambda path: read.append(path) or usual(path))
    board = ClassBoard(tmp_path, every=0)
    board.refresh()
    assert len(read) == 1000 == len(board.answers)
    drawn = board.table.value
    board.refresh()
    assert len(read) == 1000 and board.table.value is drawn
    write_answer(tmp_path, answer("student 0007", answer="a new one"))
    board.refresh()
    assert len(read) == 1001 and "a new one" in board.table.value
    assert drawn.count("<tr>") == 301  # The head, and as many rows as a page can show quickly.
    board.close()


def test_a_folder_that_does_not_exist_is_refused_and_one_that_goes_is_said(tmp_path):
    with pytest.raises(StorageError, match="is not a folder: make it first"):
        ClassBoard(tmp_path / "none")
    (tmp_path / "class").mkdir()
    board = ClassBoard(tmp_path / "class", every=0)
    (tmp_path / "class").rmdir()
    board.refresh()
    assert "cannot be read" in board.problem.value
    board.close()


@pytest.fixture(scope="module")
def lab():
    return qwen3lab.load("tiny-moe", device="cpu")


def test_a_workbench_writes_nothing_until_the_student_asks_for_it(lab, tmp_path, board):
    bench = Workbench(lab, question="3+4=?")
    bench.run()
    assert list(tmp_path.iterdir()) == []
    assert "as “Li”" in bench.share(tmp_path, name=" Li ")
    bench.state.question = "2+3*4=?"
    bench.run()
    board.refresh()
    (found,) = board.answers
    assert (found.name, found.question, found.answer) == ("Li", "2+3*4=?", "20")
    assert found.verdict == "right" and found.thinking_tokens > 5
    assert bench.share(None).startswith("Nothing")
    bench.state.question = "5+5=?"
    bench.run()
    board.refresh()
    assert board.answers == [found]
    bench.close()


def test_sharing_without_a_name_or_a_folder_is_refused(lab, tmp_path):
    bench = Workbench(lab)
    with pytest.raises(StorageError, match="printable characters, such as 'Li'"):
        bench.share(tmp_path)
    with pytest.raises(StorageError, match="is not a folder: ask your teacher"):
        bench.share(tmp_path / "none", name="Li")
    bench.close()


def test_a_folder_that_cannot_be_written_is_said_in_the_workbench(lab, tmp_path):
    folder = tmp_path / "class"
    folder.mkdir()
    bench = Workbench(lab, question="3+4=?")
    bench.share(folder, name="Li")
    folder.rmdir()
    bench.run()
    assert bench.state.error and Path(folder).name in bench.state.error
    bench.close()
