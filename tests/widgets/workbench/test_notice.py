"""The notice at an answer of the workbench, and its examples."""

import pytest

import qwen3lab
from qwen3lab.widgets import Workbench
from qwen3lab.widgets.workbench.changes import Scale
from tests.widgets.workbench.benches import panel


@pytest.fixture(scope="module")
def lab():
    return qwen3lab.load("tiny-moe", device="cpu")


def asked(lab, question, **options):
    bench = Workbench(lab, question=question, **options)
    shown = panel(bench)
    bench.wait()
    return bench, shown.notice


def test_an_answer_from_outside_shows_the_notice_and_a_click_asks_an_example(lab):
    bench, notice = asked(lab, "hello")
    assert notice.root.layout.display == ""
    assert "small world" in notice.text.value and "%" in notice.text.value
    button = notice.examples.children[0]
    button.click()
    chat = bench.wait()
    assert bench.state.asked == button.description
    assert chat is not None and chat.answer.strip().isdecimal()
    assert notice.root.layout.display == "none" and notice.examples.children == ()
    bench.close()


def test_a_sure_answer_of_the_world_shows_none(lab):
    bench, notice = asked(lab, "3+4=?")
    assert notice.root.layout.display == "none" and notice.shown is None
    bench.close()


def test_an_unsure_answer_of_a_changed_model_shows_none(lab):
    bench, notice = asked(lab, "hello")
    assert notice.shown is not None
    bench.change(Scale("mlp", 0))
    assert notice.root.layout.display == "none" and notice.shown is None
    bench.state.changes = ()
    assert notice.shown is not None
    bench.close()


def test_what_the_model_wrote_is_escaped(lab):
    bench, notice = asked(lab, "<b>12</b>+34+", thinking=False)
    assert "<b>" not in notice.text.value
    bench.close()


def test_the_first_edition_which_has_another_world_shows_none():
    old = qwen3lab.load("tiny-moe", revision="v1", device="cpu")
    bench, notice = asked(old, "hello", max_new_tokens=20)
    assert not notice.applies and notice.root.layout.display == "none"
    bench.close()


def test_a_recorded_reply_without_a_model_shows_none(lab):
    chat = lab.chat("hello", record=True, sampling=lab.suggested.sampling, max_new_tokens=60)
    bench = Workbench(chat)
    assert panel(bench).notice.root.layout.display == "none"
    bench.close()
