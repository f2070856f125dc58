"""Model cards with made-up numbers: what they show, and how they say what is wrong."""

import json
import re
from dataclasses import replace

import pytest

from qwen3lab.analysis.proportions import Share
from qwen3lab.tiny.evaluation.card import card_text, read_card, write_card
from qwen3lab.tiny.evaluation.card_examples import EXAMPLES
from qwen3lab.tiny.evaluation.evaluate import BUDGETS
from qwen3lab.tiny.evaluation.targets import targets
from qwen3lab.tiny.training.recipes import TINY_MOE
from tests.tiny.evaluation.made_up import GOOD as PAIR, Sums, evaluation

ENGLISH = "I only know my small world: sums, swaps, programs, stories, lists."


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TINY_MOE.to_dict()))
    return tmp_path


def answered(**answers):
    """The made-up evaluation with other answers to some first questions, by their number."""
    first = evaluation().first
    for number, answer in answers.items():
        place = int(number.removeprefix("q"))
        first[place] = replace(first[place], answer=answer)
    return evaluation(first=first)


def test_the_first_lines_say_which_questions_work(folder):
    head = card_text(evaluation(), folder).partition("**Training data.**")[0]
    assert "`2+3*4=?` → `20`" in head and "from left to right" in head
    assert "`2*(3+4)=?` → *outside* (en)" in head
    for questions in EXAMPLES.values():
        assert all(question.replace("\n", " ⏎ ") in head for question in questions)
    for kind in ("Sums", "Swaps", "Programs", "Stories", "Lists", "Anything else"):
        assert f"- **{kind}**" in head
    assert ENGLISH in head and "`What is 7 times 8?` → `56`" in head
    assert "wrong:" not in head


def test_the_first_lines_say_how_often_each_kind_is_right(folder):
    head = card_text(evaluation(), folder).partition("**Training data.**")[0]
    shares = "with thinking 1.00 (1 step) to 1.00 (10); without 0.97 (1 step) to 0.05 (10)."
    assert shares in head
    for right in ("Right: 0.97.\n  Animals", "Right: 1.00.\n", "Right: 0.98 (en), 0.97 (zh)."):
        assert right in head, right


def test_a_wrong_example_is_shown_as_wrong(folder):
    head = card_text(answered(q0="8"), folder).partition("**Training data.**")[0]
    assert "`3+4=?` → `8` (wrong: `7` is expected)" in head


def test_the_fifty_first_questions_are_a_table(folder):
    text = card_text(answered(q0="8", q21="", q46="a|b`c\nd", q37="long " * 40), folder)
    table = text.partition("## Fifty first questions")[2].partition("## Training")[0]
    rows = re.findall(r"^\| `.*", table, flags=re.M)
    assert len(rows) == 50 and sum(row.endswith("| yes |") for row in rows) == 46
    assert "46 of 50 are answered as\nexpected" in table
    assert rows[0] == "| `3+4=?` | `8` | `7` | **no** |"
    assert rows[21] == "| `hello` | *nothing* | *outside* (en) | **no** |"
    assert rows[40] == "| `你好` | *outside* (zh) | *outside* (zh) | yes |"
    assert rows[46] == r"| `a = 5 ⏎ b = a + 2 ⏎ print(b)` | `a\|b'c ⏎ d` | `7` | **no** |"
    assert len(rows[37]) < 180 and "…`" in rows[37]


def test_every_measurement_has_its_row(folder):
    found = evaluation(sums=Sums({"one digit": {"-": PAIR}}, PAIR, {"english": PAIR}))
    text = card_text(found, folder)
    with_thinking, at_once = Share(100, 100), Share(97, 100)
    few = Share(5, 100)
    for row in (
        f"| 10 | {with_thinking} | {few} | 106.0 |",
        f"| one digit, `-` | 100 | {with_thinking} | {at_once} |",
        f"| one digit, all | 100 | {with_thinking} | {at_once} |",
        f"| english | 100 | {with_thinking} | {at_once} |",
        f"| from outside, with thinking | {with_thinking} | {at_once} |",
        f"| of the world | {Share(3, 4000)} | {Share(9, 1000)} |",
        f"| teacher, with thinking | {Share(51, 100)} | 0.5 | {Share(49, 100)} "
        f"| {Share(48, 100)} | 0.5 |",
        f"| note, without thinking | {Share(90, 100)} | 0.9 | {Share(10, 100)} | – | – |",
        f"| {BUDGETS[-1]} | {found.by_budget[BUDGETS[-1]]} |",
        f"| no thinking | {found.mixed_at_once} |",
    ):
        assert row in text, row
    for sentence in (
        "A step takes 11.0 thinking tokens on average: 7.0 in problems of 1 step, 106.0 in",
        f"goes on with “Wait” in {at_once} and answers right in {with_thinking}",
        f"the answer is right in {at_once}, without it in {with_thinking}",
        "Highest: 0.62 (layer 1, head 0); heads above 0.3: 3, above 0.5: 1\nof 6.",
        "at temperature 1 without filters, with seeds",
        "stories 0.970 (0.915 to 0.990), lists 1.000",
    ):
        assert sentence in text, sentence


def test_the_command_repeats_the_measurement(folder):
    text = card_text(evaluation(seed=7, n=30, mixed_at_once=Share(9, 44)), folder)
    assert "    qwen3lab evaluate tiny-moe --n 30 --mixed 44 --seed 7\n" in text


def test_a_card_is_written_read_and_shows_missed_targets(folder):
    worse = {**evaluation().thinking, "swaps": {**evaluation().thinking["swaps"], 6: Share(1, 3)}}
    missed = evaluation(thinking=worse)
    write_card(folder, missed)
    text = (folder / "README.md").read_text(encoding="utf-8")
    row = f"accuracy with thinking, swaps of 6 steps | {Share(1, 3)} | at least 0.95 | no |"
    # It is missed together with the difference that thinking makes.
    assert row in text and text.count("| no |") == 2
    assert "contains no training log" in text
    numbers = json.loads((folder / "card.json").read_text())
    assert numbers["thinking"]["arithmetic"]["10"]["total"] == 100
    assert len(numbers["targets"]) == len(targets(missed))
    assert read_card(folder) == missed
    assert card_text(read_card(folder), folder) == text


def test_a_dense_model_has_no_lines_on_experts(folder):
    dense = evaluation(least_load=[], most_load=[], information=[])
    assert "expert load" not in card_text(dense, folder)
    assert "expert load" in card_text(evaluation(), folder)


def test_a_card_of_the_first_edition_can_still_be_read(folder):
    """It has fewer fields."""
    numbers = evaluation().to_dict()
    for name in ("n", "thinking_tokens", "sums", "border", "hints", "turns", "sink", "first"):
        del numbers[name]
    (folder / "card.json").write_text(json.dumps(numbers))
    old = read_card(folder)
    assert old.by_budget == evaluation().by_budget and old.sums is None and old.first == []
