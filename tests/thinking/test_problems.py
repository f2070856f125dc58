import codecs
import json
import os
import warnings

import pytest

from qwen3lab import tiny
from qwen3lab.thinking import Exercise, Problem, read_problems


def write_file(tmp_path, *lines):
    path = tmp_path / "set.jsonl"
    path.write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), "utf-8"
    )
    return path


def test_a_file_of_questions_and_answers_is_read(tmp_path):
    path = write_file(
        tmp_path, {"question": "2+2=?", "answer": 4}, "", {"question": "b", "answer": "x"}
    )
    first, second = read_problems(path)
    assert first == Exercise("2+2=?", "4", "", "exact")
    assert first.grade(" 4 ") and not first.grade("It is 4")
    assert second.answer == "x"


def test_the_format_of_gsm8k_is_read(tmp_path):
    line = {"question": "How many eggs?", "answer": "16 - 3 = <<16-3=13>>13\n#### 1,013"}
    (problem,) = read_problems(write_file(tmp_path, line))
    assert (problem.answer, problem.grader) == ("1,013", "last number")
    assert problem.grade("So she has $1013 left.") and not problem.grade("13")


def test_both_formats_of_math_are_read(tmp_path):
    old = {"problem": "p", "level": "Level 3", "solution": r"so \boxed{\frac{1}{2}}.", "type": "a"}
    new = {"problem": "q", "level": 5, "solution": "...", "answer": r"\sqrt{2}", "unique_id": "u"}
    first, second = read_problems(write_file(tmp_path, old, new))
    assert (first.answer, first.level, first.grader) == (r"\frac{1}{2}", "Level 3", "boxed")
    assert (second.answer, second.level) == (r"\sqrt{2}", "5")
    assert second.grade(r"Thus \boxed{\sqrt{2}}.") and not second.grade(r"\sqrt{2}")


def test_the_grader_argument_replaces_the_default_grader(tmp_path):
    path = write_file(tmp_path, {"question": "a", "answer": "7"})
    (problem,) = read_problems(path, grader="last number")
    assert problem.grade("the answer is 7.")
    with pytest.raises(ValueError, match="there is no grader 'best'"):
        read_problems(path, grader="best")


def test_invalid_lines_are_skipped_with_a_warning(tmp_path):
    path = write_file(
        tmp_path,
        {"question": "a", "answer": "1"},
        "{not json",
        ["a", "list"],
        {"answer": "1"},
        {"question": "b"},
        {"problem": "c", "solution": "no box"},
        {"question": "d", "answer": "2"},
    )
    with pytest.warns(UserWarning) as caught:
        found = read_problems(path)
    assert [problem.question for problem in found] == ["a", "d"]
    messages = [str(warning.message) for warning in caught]
    assert [sentence.split(" of ")[0] for sentence in messages] == [
        f"line {n}" for n in range(2, 7)
    ]
    assert "is not JSON" in messages[0] and "is not an object" in messages[1]
    assert "has no question" in messages[2]
    assert all("has no answer" in sentence for sentence in messages[3:])


def test_the_error_for_a_file_without_problems_gives_the_reason(tmp_path):
    with pytest.raises(ValueError, match=r"contains no problem: line 1 of set.jsonl has no answer"):
        read_problems(write_file(tmp_path, {"question": "a"}))
    with pytest.raises(ValueError, match="contains no problem: it is empty"):
        read_problems(write_file(tmp_path))
    with pytest.raises(FileNotFoundError):
        read_problems(tmp_path / "nowhere.jsonl")


def test_tiny_problems_satisfy_the_problem_protocol():
    (problem,) = tiny.problems("swaps", n=1, steps=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(problem, Problem)
    assert problem.level == "3" and problem.grade(problem.answer)


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_line_separators_inside_of_a_text_do_not_end_its_line(tmp_path, separator):
    questions = ["2+2=?", f"a{separator}b", "3+1=?"]
    lines = [json.dumps({"question": q, "answer": "4"}, ensure_ascii=False) for q in questions]
    (tmp_path / "p.jsonl").write_bytes("\n".join(lines).encode())
    assert [each.question for each in read_problems(tmp_path / "p.jsonl")] == questions


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (
            b'{"question":1' + b"0" * 5000 + b',"answer":1}',
            r"is not JSON that can be read \(Exceeds",
        ),
        (b'{"question":"\xe9","answer":"1"}', r"is not UTF-8 text \(invalid .* at byte 14\)"),
        (b'{"question":"x","answer":NaN}', "NaN is no number of JSON"),
        (b'{"question":"x","answer":-Infinity}', "-Infinity is no number of JSON"),
        (b'{"question":"\\ud800","answer":"1"}', "contains half of a character"),
    ],
)
def test_a_hostile_line_is_skipped_by_its_number_and_the_others_are_read(tmp_path, line, reason):
    good = b'{"question": "2+2=?", "answer": "4"}'
    path = tmp_path / "p.jsonl"
    path.write_bytes(codecs.BOM_UTF8 + good + b"\r\n" + line + b"\n" + good)
    with pytest.warns(UserWarning, match=f"line 2 of p.jsonl .*{reason}"):
        problems = read_problems(path)
    assert [problem.question for problem in problems] == ["2+2=?"] * 2


def test_a_pipe_is_no_problem_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is not a regular file"):
        read_problems(tmp_path / "pipe")
