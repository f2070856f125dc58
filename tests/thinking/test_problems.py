import json
import warnings

import pytest

from qwen3lab import tiny
from qwen3lab.thinking import Exercise, Problem, read_problems


def written(tmp_path, *lines):
    path = tmp_path / "set.jsonl"
    path.write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), "utf-8"
    )
    return path


def test_a_file_of_questions_and_answers_is_read(tmp_path):
    path = written(
        tmp_path, {"question": "2+2=?", "answer": 4}, "", {"question": "b", "answer": "x"}
    )
    first, second = read_problems(path)
    assert first == Exercise("2+2=?", "4", "", "exact")
    assert first.grade(" 4 ") and not first.grade("It is 4")
    assert second.answer == "x"


def test_the_layout_of_gsm8k_is_read(tmp_path):
    line = {"question": "How many eggs?", "answer": "16 - 3 = <<16-3=13>>13\n#### 1,013"}
    (problem,) = read_problems(written(tmp_path, line))
    assert (problem.answer, problem.grader) == ("1,013", "last number")
    assert problem.grade("So she has $1013 left.") and not problem.grade("13")


def test_the_layouts_of_math_are_read(tmp_path):
    old = {"problem": "p", "level": "Level 3", "solution": r"so \boxed{\frac{1}{2}}.", "type": "a"}
    new = {"problem": "q", "level": 5, "solution": "...", "answer": r"\sqrt{2}", "unique_id": "u"}
    first, second = read_problems(written(tmp_path, old, new))
    assert (first.answer, first.level, first.grader) == (r"\frac{1}{2}", "Level 3", "boxed")
    assert (second.answer, second.level) == (r"\sqrt{2}", "5")
    assert second.grade(r"Thus \boxed{\sqrt{2}}.") and not second.grade(r"\sqrt{2}")


def test_the_grader_argument_overrides_the_default(tmp_path):
    path = written(tmp_path, {"question": "a", "answer": "7"})
    (problem,) = read_problems(path, grader="last number")
    assert problem.grade("the answer is 7.")
    with pytest.raises(ValueError, match="there is no grader 'best'"):
        read_problems(path, grader="best")


def test_invalid_lines_are_named_and_skipped(tmp_path):
    path = written(
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
    said = [str(warning.message) for warning in caught]
    assert [sentence.split(" of ")[0] for sentence in said] == [f"line {n}" for n in range(2, 7)]
    assert "is not JSON" in said[0] and "is not an object" in said[1]
    assert "has no question" in said[2]
    assert all("has no answer" in sentence for sentence in said[3:])


def test_a_file_without_a_problem_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ValueError, match=r"holds no problem: line 1 of set.jsonl has no answer"):
        read_problems(written(tmp_path, {"question": "a"}))
    with pytest.raises(ValueError, match="holds no problem: it is empty"):
        read_problems(written(tmp_path))
    with pytest.raises(FileNotFoundError):
        read_problems(tmp_path / "nowhere.jsonl")


def test_problems_of_the_tiny_world_fulfil_the_protocol():
    (problem,) = tiny.problems("swaps", n=1, steps=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(problem, Problem)
    assert problem.level == "3" and problem.grade(problem.answer)
