"""The command line in Chinese: help, tables and sentences, and nothing changed in English."""

import json
import os
import subprocess
import sys

import pytest
from rich.cells import cell_len

from qwen3lab.cli.help_texts import HEADINGS, lines
from qwen3lab.exercises import progress
from qwen3lab.jupyter.working_copy import shipped_notebooks
from tests.test_cli import COMMANDS, called

COURSE = ("slides", "status", "reset", "assignment", "bundle")
LINES = [(), *((name,) for name in COMMANDS), *(("course", name) for name in COURSE)]
WIDTH = 80


@pytest.fixture
def run(monkeypatch, capfd):
    return lambda *arguments: called(monkeypatch, capfd, *arguments)


def is_chinese(text: str) -> bool:
    return any("\u4e00" <= char <= "\u9fff" for char in text)


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_help_is_chinese_line_by_line(run, chinese, monkeypatch, line):
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    code, out, _ = run(*line, "--help")
    assert code == 0 and out.startswith("用法：")
    assert not [english for english in HEADINGS if english in out]
    shown = [text for text in out.splitlines() if "  --" in text or text.startswith("  -h")]
    described = [text for text in shown if len(text.split()) > 2]
    assert shown and all(map(is_chinese, described))
    assert "Show this message" not in out and "Example:" not in out


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_chinese_descriptions_fit_into_a_terminal(run, chinese, monkeypatch, line):
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    out = run(*line, "--help")[1].replace("[默认", "\n[默认").replace("[必填", "\n[必填")
    assert max(cell_len(text) for text in out.splitlines() if is_chinese(text)) <= WIDTH


def test_help_is_english_again_after_it_was_chinese(run, monkeypatch):
    from qwen3lab.translation import language, set_language

    before, english = language(), run("models", "--help")[1]
    set_language("zh")
    try:
        assert run("models", "--help")[1] != english
    finally:
        set_language(before)
    assert run("models", "--help")[1] == english and english.startswith("Usage:")


@pytest.mark.parametrize(("name", "loaded"), [("en", set()), ("zh", {"babel"})])
def test_help_loads_no_more_than_the_catalogue(name, loaded):
    code = (
        "import sys; from qwen3lab.cli import main; sys.argv = ['qwen3lab', '--help']\n"
        "try: main()\n"
        "except SystemExit: print({'torch', 'babel', 'pandas', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        text=True,
        env=os.environ | {"QWEN3LAB_LANG": name, "PYTHONUTF8": "1"},
    )
    assert done.stdout.splitlines()[-1] == str(loaded)


def test_lines_keep_words_whole_and_do_not_begin_with_a_full_stop():
    text = "运行 qwen3lab lab 打开笔记本，然后继续。"
    found = lines(text, 12)
    assert "".join(found).replace(" ", "") == text.replace(" ", "")
    assert max(map(cell_len, found)) <= 12 + 2  # A mark stays with the word before it.
    assert any("qwen3lab" in line for line in found)
    assert not [line for line in found if line[0] in "，。"]


def test_tables_have_chinese_headings_and_json_stays_english(run, chinese, tmp_path):
    _, out, _ = run("models")
    assert "模型" in out and "参数" in out and "多少内存放得下什么" in out
    assert "name" in json.loads(run("models", "--json")[1])[0]
    progress.start(tmp_path)
    _, out, _ = run("course", "status", tmp_path)
    assert "难度" in out and "容易" in out and "已解出 0 个" in out
    row = json.loads(run("course", "status", tmp_path, "--json")[1])[0]
    assert row["difficulty"] == "easy"


def test_errors_are_chinese(run, chinese, tmp_path):
    code, _, err = run("record", "tiny-moe", "3+2=?", "-o", tmp_path)
    assert code == 1 and "是文件夹" in err
    code, _, err = run("course", "assignment", "99_none", tmp_path)
    assert code == 1 and "没有笔记本" in err
    code, _, err = run("course", "bundle", tmp_path, "--check")
    assert code == 1 and "不是安装包" in err


@pytest.fixture
def books(monkeypatch):
    """Folders of the notebooks that slides are made of."""
    asked = []

    def stand_in(given, folder, *, run):
        asked[:] = [path.parent for path in given]
        return list(given)

    monkeypatch.setattr("qwen3lab.course.write_slides", stand_in)
    return asked


def test_slides_are_made_of_the_notebooks_in_the_language(run, chinese, books, tmp_path):
    assert run("course", "slides", tmp_path)[0] == 0
    assert set(books) == {shipped_notebooks() / "zh"} and len(books) == 7


def test_slides_follow_an_option_before_the_locale(run, books, tmp_path):
    from qwen3lab.translation import language, set_language

    before = language()
    try:
        assert run("course", "slides", tmp_path)[0] == 0
        assert set(books) == {shipped_notebooks()}
        assert run("course", "slides", tmp_path, "--language", "zh")[0] == 0
        assert set(books) == {shipped_notebooks() / "zh"}
        code, _, err = run("course", "slides", tmp_path, "--language", "xx")
        assert code == 1 and "'xx'" in err
    finally:
        set_language(before)
