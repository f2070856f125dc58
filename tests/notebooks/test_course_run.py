"""The run of the course in a browser: what it finds, what it tries, and where it goes on."""

import ast
from pathlib import Path

import pytest

from qwen3lab.course.solutions import SOLUTIONS
from qwen3lab.exercises.tasks import BY_NOTEBOOK
from tests.notebooks.books import NOTEBOOKS, open_book
from tests.notebooks.browser import chromium
from tests.notebooks.course_run import __main__ as command, findings
from tests.notebooks.course_run.answers import WRONG, exercises_of, tries
from tests.notebooks.course_run.report import REPORT, write_report, write_sheet
from tests.notebooks.course_run.walk import Setting

SEEN = {"cell": 3, "what": "output", "source": "1 < 2", "seconds": 0.5, "pictures": ["3.png"]}
REPORTED = {"language": "zh", "width": 1366, "height": 768, "theme": "light", "seconds": 9.0}
NOTHING = {"texts": [], "wide": [], "cut": [], "empty": False}


@pytest.mark.parametrize(
    ("text", "source", "words"),
    [
        ("第 3 层的 attention", "", "attention"),
        ("tiny-moe · 6 层，每层 4 个头", "", ""),
        ("调用 lab.record(text) 记录 “the key”", "", ""),
        ("budget 16: 答案", "print(f'budget {budget}')", ""),
        ("4 ·has", "", ""),
    ],
)
def test_english_words_in_chinese_are_found_unless_they_are_code_or_the_models(
    text: str, source: str, words: str
):
    assert findings.foreign(text, "zh", source) == words


def test_chinese_in_the_english_edition_is_found():
    assert findings.foreign("layer 3 层", "en") == "层"
    assert findings.foreign("layer 3", "en") == ""


@pytest.mark.parametrize("text", ["得分: 高", "给了词元 12: 那是", "对了。 词元", "混合 （高）"])
def test_punctuation_that_is_not_chinese_is_found(text: str):
    assert findings.of_output({**NOTHING, "texts": [text]}, "zh", "")
    assert not findings.of_output({**NOTHING, "texts": [text]}, "en", text)


def test_an_empty_or_cut_output_is_found():
    found = findings.of_output({**NOTHING, "empty": True, "wide": ["div 9 > 8"]}, "en", "")
    assert len(found) == 2 and "empty" in found[0] and "9 > 8" in found[1]
    assert findings.of_kinds([("stdout", "fine"), ("stderr", "bad")]) == ["stderr: bad"]


def test_what_an_exercise_says_is_compared_with_what_was_tried(chinese: None):
    assert not findings.of_verdict("right", "对了。词元 12")
    assert not findings.of_verdict("hint 2", "…提示 2 / 3：看这一行")
    assert findings.of_verdict("wrong", "对了。词元 12")
    assert findings.of_verdict("hint 2", "…提示 1 / 3：看这一行")


def test_each_exercise_is_tried_with_a_wrong_answer_three_hints_and_a_right_one():
    assert set(WRONG) == set(SOLUTIONS)
    for notebook, names in BY_NOTEBOOK.items():
        cells = open_book(NOTEBOOKS / f"{notebook}.ipynb").cells
        sources = [cell.source if cell.cell_type == "code" else "" for cell in cells]
        found = exercises_of(notebook, sources)
        assert list(found.values()) == list(names)
        for place, name in found.items():
            tried = dict(tries(name, sources[place]))
            assert list(tried) == ["wrong", "hint 1", "hint 2", "hint 3", "right"]
            assert len({ast.dump(ast.parse(source)) for source in tried.values()}) == 5


def test_the_page_shows_every_notebook_with_escaped_findings(tmp_path: Path):
    seen = {**SEEN, "findings": ["<b> is English"]}
    report = {**REPORTED, "notebook": "01_attention", "page": [], "seen": [seen]}
    folder = tmp_path / Setting().name / "01_attention"
    folder.mkdir(parents=True)
    write_report(report, folder)
    page = write_sheet(tmp_path).read_text("utf-8")
    assert "zh 1366x768 light 01_attention: 9.0 s, 1 looked at, 1 findings" in page
    assert "&lt;b&gt; is English" in page and "1 &lt; 2" in page
    assert 'src="zh-1366x768-light/01_attention/3.png"' in page


def test_a_run_goes_on_with_the_notebooks_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chinese: None
):
    done = tmp_path / Setting().name / "00_start_here"
    done.mkdir(parents=True)
    write_report({**REPORTED, "notebook": done.name, "page": [], "seen": []}, done)
    ran = []

    def run(setting: Setting, folder: Path, notebook: str) -> dict:
        ran.append(notebook)
        folder.mkdir(parents=True)
        report = {**REPORTED, "notebook": notebook, "page": [], "seen": []}
        write_report(report, folder)
        return report

    monkeypatch.setattr(command, "run", run)
    monkeypatch.setenv("QWEN3LAB_LANG", "en")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    command.main(Setting(), tmp_path, list(command.chosen(["00", "01"])))
    assert ran == ["01_attention"]
    assert (tmp_path / Setting().name / "01_attention" / REPORT).exists()


@pytest.mark.browser
@pytest.mark.slow
def test_the_chinese_notebook_on_attention_has_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chinese: None
):
    chromium()
    monkeypatch.delenv("QWEN3LAB_LANG", raising=False)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    report = command.run(Setting(), tmp_path / "01_attention", "01_attention")
    tried = [each["what"] for each in report["seen"]]
    assert tried.count("right") == 5 and tried[-1] == "quiz"
    found = [(each["cell"], each["what"], each["findings"]) for each in report["seen"]]
    assert report["page"] == [] and not [each for each in found if each[2]]
