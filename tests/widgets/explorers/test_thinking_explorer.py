"""The thinking explorer without a kernel: tests set widget values and read them."""

import re
import threading
from dataclasses import replace
from html import unescape
from importlib import import_module

import pytest

import qwen3lab
from qwen3lab import Sampling
from qwen3lab.thinking import answers_at
from qwen3lab.widgets import ThinkingExplorer
from qwen3lab.widgets.explorers.thinking_compute import steps_of
from tests.widgets.workbench.benches import panel, thinking

QUESTION = "7+2*3-1*7+3-2=?"


class Paused(qwen3lab.Lab):
    """A lab that pauses at token `pause_at` of a reply until `go_on` is set.

    It pauses only replies whose thinking mode is `pauses_thinking`.
    """

    def __init__(self, lab: qwen3lab.Lab) -> None:
        super().__init__(lab.model, lab.tokenizer, "paused")
        self.pause_at, self.pauses_thinking = -1, True
        self.paused, self.go_on = threading.Event(), threading.Event()

    def chat(self, messages, *, on_step=None, **options):
        steps = []

        def handler(step):
            steps.append(step)
            if on_step is not None:
                on_step(step)
            if len(steps) == self.pause_at and options["thinking"] == self.pauses_thinking:
                self.paused.set()
                assert self.go_on.wait(timeout=20), "the test never let the reply go on"

        return super().chat(messages, on_step=handler, **options)


def plain(html: str) -> str:
    """The text of HTML."""
    return unescape(re.sub(r"<[^>]*>", "", html))


@pytest.fixture
def explorer(tiny_lab):
    """A displayed explorer whose first run has ended."""
    explorer = ThinkingExplorer(tiny_lab, question=QUESTION)
    explorer._ipython_display_()
    explorer.wait()
    return explorer


@pytest.fixture
def running(tiny_lab):
    """A displayed explorer whose first run is paused during the thinking."""
    lab = Paused(tiny_lab)
    lab.pause_at = 8
    explorer = ThinkingExplorer(lab, question=QUESTION)
    explorer._ipython_display_()
    assert lab.paused.wait(timeout=20)
    yield explorer
    lab.go_on.set()
    explorer.wait()


def test_after_a_run_every_step_of_the_thinking_has_an_answer(explorer, tiny_lab):
    state, chat = explorer.state, explorer.state.chat
    assert [step.text for step in state.steps] == [step.text for step in steps_of(chat)]
    points = [0, *(step.kept for step in state.steps)]
    assert state.answers == answers_at(tiny_lab, chat, points)
    assert state.marker == chat.thinking_tokens - 1 == points[-1]
    # The last point is before the line break that ends the thinking.
    assert chat.answer in [state.answers[point].text for point in points[-2:]]
    shown_answers = thinking(explorer).thoughts.answers
    assert {int(point): text for point, (text, _) in shown_answers.items()} == {
        point: answer.text for point, answer in state.answers.items()
    }
    assert [same for _, same in shown_answers.values()].count(True) == sum(
        answer.text == chat.answer for answer in state.answers.values()
    )


def test_the_reply_without_thinking_is_shown_too(explorer, tiny_lab):
    alone = tiny_lab.chat(QUESTION, thinking=False, sampling=Sampling.greedy())
    assert explorer.state.direct_reply.answer == alone.answer
    replies = thinking(explorer).replies.value
    assert "this run" in replies and "without thinking" in replies
    assert plain(replies).count(alone.answer) >= 1


def test_moving_the_marker_shows_the_answer_there(explorer, tiny_lab):
    view, chat = thinking(explorer), explorer.state.chat
    view.marker.value = 5
    explorer.wait()
    expected = answers_at(tiny_lab, chat, [5])[5].text
    total = chat.thinking_tokens - 1
    found = plain(view.answer_here.value)
    assert found.startswith(f"Answer after 5 of {total} thinking tokens: ")
    assert found.endswith(expected)
    # `<think>` and a line break precede the first thinking token: the fifth one is token 6.
    assert panel(explorer).transcript.marked == 6 and view.thoughts.marker == 5


def test_stop_thinking_inserts_the_early_stop_and_the_answer_follows(running):
    view, lab = thinking(running), running.lab
    assert not view.stop_thinking.disabled and view.everywhere.disabled
    view.stop_thinking.click()
    lab.go_on.set()
    chat = running.wait()
    # `<think>`, the line break and six thinking tokens precede the click.
    assert (chat.stop, chat.thinking_tokens) == ("asked", 6)
    assert chat.answer and "stopped the thinking" in panel(running).transcript.progress["note"]
    assert view.stop_thinking.disabled


def test_think_more_extends_the_budget_of_the_current_run(tiny_lab):
    lab = Paused(tiny_lab)
    lab.pause_at = 5
    explorer = ThinkingExplorer(lab, question=QUESTION, budget=4)
    explorer._ipython_display_()
    assert lab.paused.wait(timeout=20)
    thinking(explorer).think_more.click()
    budget = 4 + tiny_lab.suggested.more_thinking
    assert explorer.state.asked_budget == budget
    lab.go_on.set()
    chat = explorer.wait()
    assert chat.thinking_tokens == budget and chat.stop == "budget"


def test_think_more_after_a_run_asks_again_and_replaces_the_end_of_thinking(explorer):
    before = explorer.state.chat
    thinking(explorer).think_more.click()
    chat = explorer.wait()
    assert explorer.state.refused == 1 and explorer.state.run == 2
    n = before.tokens.index("</think>")
    assert chat.token_ids[:n] == before.token_ids[:n]
    assert "Wait" in chat.thinking and "Wait" not in before.thinking
    explorer.start()
    assert "Wait" not in explorer.wait().thinking


def test_without_thinking_there_are_no_early_answers(explorer):
    view = thinking(explorer)
    explorer.state.thinking = False
    explorer.start()
    chat = explorer.wait()
    assert chat.thinking == "" and explorer.state.direct_reply is None
    assert explorer.state.steps == () and view.marker.disabled and view.everywhere.disabled
    assert "Run a question with" in view.answer_here.value
    view.everywhere.disabled = False
    view.everywhere.click()
    assert "this run has no thinking" in panel(explorer).stage_alert.value


def test_an_error_of_the_early_answers_is_shown_escaped(explorer, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("<b>no more</b> memory")

    monkeypatch.setattr("qwen3lab.widgets.workbench.parts.early_answers.answers_at", broken)
    explorer.state.answers = {}
    thinking(explorer).marker.value = 7
    explorer.wait()
    assert "&lt;b&gt;no more&lt;/b&gt; memory" in thinking(explorer).answer_here.value
    assert not explorer.state.answering and explorer.state.asking == -1


def test_answers_are_escaped(explorer):
    view, state = thinking(explorer), explorer.state
    state.answers = {
        point: replace(answer, text="<script>x</script>") for point, answer in state.answers.items()
    }
    value = view.answer_here.value
    assert "<script" not in value and plain(value).endswith("<script>x</script>")


def test_a_replaced_run_shows_nothing(running):
    running.state.thinking = False
    running.start()
    running.lab.go_on.set()
    chat = running.wait()
    assert chat.thinking == "" and running.state.current is chat
    assert running.state.error == "" and panel(running).alert.value == ""


@pytest.mark.parametrize("end", [ThinkingExplorer.stop, ThinkingExplorer.close])
def test_a_stopped_run_generates_no_early_answers(running, end):
    end(running)
    running.lab.go_on.set()
    assert running.wait().thinking
    assert running.state.answers == {} and running.thinking.answer_worker.future is None


@pytest.fixture
def probing(explorer, monkeypatch):
    """An explorer paused at its first early answer; `points` lists the answers started."""
    begun, explorer.go_on, explorer.points = threading.Event(), threading.Event(), []

    def slow(replies, point):
        explorer.points.append(point)
        begun.set()
        assert explorer.go_on.wait(timeout=20), "the test never let the answer come"
        return original(replies, point)

    convergence = import_module("qwen3lab.thinking.convergence")
    original = convergence._answers
    monkeypatch.setattr(convergence, "_answers", slow)
    explorer.state.answers = {}
    thinking(explorer).everywhere.click()
    assert begun.wait(timeout=20)
    yield explorer
    explorer.go_on.set()
    explorer.wait()


def test_stop_ends_the_early_answers_within_a_token(probing):
    view, state = thinking(probing), probing.state
    assert state.answering and not panel(probing).controls.stop.disabled
    panel(probing).controls.stop.click()
    probing.go_on.set()
    probing.wait()
    last = state.steps[-1].kept
    assert len(state.steps) > 1 and probing.points == [last]
    assert state.answers == {}
    assert (
        not state.answering and panel(probing).controls.stop.disabled and not view.marker.disabled
    )


def test_closing_ends_the_early_answers_after_the_current_one(probing):
    probing.close()
    probing.go_on.set()
    probing.wait()
    assert len(probing.points) == 1


def test_a_new_run_ends_the_early_answers_of_the_run_before(probing):
    view, steps = thinking(probing), probing.state.steps
    probing.state.thinking = False
    probing.start()
    assert not probing.state.answering
    probing.go_on.set()
    assert probing.wait().thinking == "" and len(probing.points) == 1
    probing.state.thinking = True
    probing.start()
    probing.wait()
    assert probing.state.steps == steps and not view.marker.disabled


def test_the_reply_without_thinking_can_be_stopped_and_is_then_discarded(tiny_lab):
    lab = Paused(tiny_lab)
    lab.pause_at, lab.pauses_thinking = 1, False
    explorer = ThinkingExplorer(lab, question=QUESTION)
    explorer._ipython_display_()
    assert lab.paused.wait(timeout=20)
    controls = panel(explorer).controls
    # The reply itself is shown by now; Stop is for the one beside it.
    assert explorer.state.current is not None and not controls.stop.disabled
    controls.stop.click()
    lab.go_on.set()
    chat = explorer.wait()
    assert chat.stop == "natural" and chat.thinking and explorer.state.current is chat
    assert explorer.state.direct_reply is None and explorer.state.answers == {}
    assert explorer.state.status == "idle" and not controls.run.disabled


def test_an_empty_question_keeps_the_thinking_thinking(explorer):
    before = explorer.state.steps
    explorer.state.question = " "
    explorer.start()
    assert explorer.state.steps == before and explorer.state.answers
    assert "the question is empty" in panel(explorer).alert.value
