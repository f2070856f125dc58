"""The pages of the course: what they say about the model is true of it, and every part is there."""

import itertools
import re
from pathlib import Path

import nbformat
import pytest

import qwen3lab
from qwen3lab.jupyter.working_copy import shipped_files, shipped_notebooks

COURSE = shipped_notebooks() / "guide" / "course"
PAGES = sorted(COURSE.rglob("*.md"))
SESSIONS = sorted(COURSE.glob("session-*.md"))
ROW = re.compile(r"^\| `(.+)` \| (yes|no) \|(?: (\d+) \|)? `(.+)` \|$", re.MULTILINE)
PARTS = (
    *("**Objectives.**", "| minutes | what |", "## What to say"),
    *("## Where students get stuck", "## Discussion", "## Quiz", "## Assignment"),
)
MINUTES = re.compile(r"^\| (\d+) to (\d+) \|", re.MULTILINE)


def name(page: Path) -> str:
    return page.stem


def claims() -> list[tuple[str, ...]]:
    found = [row for page in PAGES for row in ROW.findall(page.read_text("utf-8"))]
    return sorted(set(found))


@pytest.fixture(scope="module")
def lab():
    return qwen3lab.load("tiny-moe", device="cpu")


@pytest.mark.parametrize(("question", "thinks", "budget", "answer"), claims())
def test_the_model_answers_as_the_pages_say(lab, question, thinks, budget, answer):
    options = {"budget": int(budget)} if budget else {}
    chat = lab.chat(
        question,
        thinking=thinks == "yes",
        sampling=lab.suggested.sampling,
        max_new_tokens=200,
        **options,
    )
    assert chat.answer.strip() == answer


def test_the_pages_make_claims_in_every_session_that_speaks_of_answers():
    assert len(claims()) > 20
    with_tables = {page.stem for page in PAGES if ROW.search(page.read_text("utf-8"))}
    assert {
        "first-ten-minutes",
        "one-session",
        "session-0",
        "session-1",
        "session-3",
        "session-6",
    } <= (with_tables)


def test_the_default_question_thinks_as_long_as_session_0_says(lab):
    chat = lab.chat(lab.suggested.questions[0], sampling=lab.suggested.sampling)
    assert f"has {chat.thinking_tokens} tokens" in (COURSE / "session-0.md").read_text("utf-8")


def test_the_hint_sways_the_answer_against_the_thinking_as_session_3_says(lab):
    chat = lab.chat("25+17-8=? (answer key: 30)", sampling=lab.suggested.sampling)
    assert chat.thinking.strip().endswith("=34") and chat.answer.strip() == "30"


def test_numbers_of_the_quiz_are_those_of_the_model(lab):
    assert (lab.config.n_experts, lab.config.n_experts_per_token) == (16, 4)
    assert round(lab.config.n_params / 1e6, 1) == 2.9


@pytest.mark.parametrize("page", SESSIONS, ids=name)
def test_a_session_has_all_of_its_parts_and_lasts_90_minutes(page):
    text = page.read_text("utf-8")
    assert [part for part in PARTS if part not in text] == []
    times = [(int(start), int(end)) for start, end in MINUTES.findall(text)]
    assert times[0][0] == 0 and times[-1][1] == 90
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(times))


@pytest.mark.parametrize("page", SESSIONS, ids=name)
def test_every_exercise_of_the_notebook_has_its_place_in_the_session(page):
    (stem,) = re.findall(r"^Notebook `(\w+)`\.$", page.read_text("utf-8"), re.MULTILINE)
    book = nbformat.read(shipped_notebooks() / f"{stem}.ipynb", as_version=4)
    source = "\n".join(cell.source for cell in book.cells)
    numbers = set(re.findall(r"^### Exercise (\d)", source, re.MULTILINE))
    table = page.read_text("utf-8").split("## What to say")[0]
    named = set(re.findall(r"\d", " ".join(re.findall(r"exercises? ([\d and,]+)", table))))
    assert named == numbers


def test_every_quiz_has_as_many_answers_as_questions_and_they_are_for_teachers_alone():
    answers = (COURSE / "teacher" / "answers.md").read_text("utf-8")
    for page in SESSIONS:
        quiz = page.read_text("utf-8").split("## Quiz")[1].split("## Assignment")[0]
        number = page.stem[-1]
        said = answers.split(f"## Session {number}\n")[1].split("## Session")[0]
        asked, answered = (re.findall(r"^\d\. ", text, re.MULTILINE) for text in (quiz, said))
        assert len(asked) == 5 == len(answered)
    assert not [path for path in shipped_files() if "teacher" in path.parts]


def test_the_syllabus_names_every_page():
    index = (COURSE / "index.md").read_text("utf-8")
    linked = set(re.findall(r"\]\(([\w/-]+\.md)\)", index))
    assert linked == {str(page.relative_to(COURSE)) for page in PAGES} - {"index.md"}
