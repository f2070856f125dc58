"""The thinking explorer with thinking and answers as long as those of published models."""

import json
import re
import threading
from html import unescape

import ipywidgets as w
import pytest

from qwen3lab.generation.sampling import Sampling
from qwen3lab.generation.thinking_control import Extension
from qwen3lab.text.tokenizer import open_tokenizer
from qwen3lab.thinking import answers_at
from qwen3lab.tiny.world.tokenizer import N_VOCAB, write_tokenizer
from qwen3lab.widgets import Explorer, RoutingExplorer, ThinkingExplorer
from qwen3lab.widgets.components.thoughts import MAX_PARAGRAPH, paragraph_starts
from qwen3lab.widgets.explorers.thinking_compute import (
    cost_text,
    count_at,
    place_of,
    steps_of,
    thoughts_of,
)
from qwen3lab.widgets.workbench.parts import early_answers
from qwen3lab.widgets.workbench.views.thinking import ThinkingPane
from tests.fake_lab import Script, long_thinking, scripted_lab
from tests.widgets.workbench.benches import panel, routing, thinking

QUESTION = "How many legs do 3 spiders have?"
ANSWER = "24 legs.\n\n共24条腿。"
EARLY_ANSWER = "16 legs.\n\n共16条腿。"


@pytest.fixture(scope="module")
def long_lab(tmp_path_factory):
    """A lab that thinks for about 400 tokens of the small tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    script = Script(long_thinking(4), ANSWER, EARLY_ANSWER)
    return scripted_lab(open_tokenizer(folder), script, d_vocab=N_VOCAB)


@pytest.fixture(scope="module")
def finished(long_lab):
    """An explorer whose run has ended, for all tests of this file."""
    explorer = ThinkingExplorer(long_lab, question=QUESTION, max_new_tokens=4096)
    explorer._ipython_display_()
    explorer.wait()
    yield explorer
    explorer.close()


@pytest.fixture
def explorer(finished):
    """That explorer, with the marker at the end and no early answers."""
    state = finished.state
    state.answers, state.answer_error = {}, ""
    state.marker = state.steps[-1].kept
    yield finished
    finished.thinking.answer_worker.stop()
    finished.wait()


@pytest.fixture
def view(explorer) -> ThinkingPane:
    return thinking(explorer)


@pytest.fixture
def asked(monkeypatch):
    """The points of each request for early answers."""
    requests = []

    def counted(lab, chat, points, **options):
        requests.append(list(points))
        return answers_at(lab, chat, points, **options)

    monkeypatch.setattr(early_answers, "answers_at", counted)
    return requests


@pytest.fixture
def waiting(monkeypatch):
    """Requests that wait until they are cancelled: lists of their points, and a start event."""
    requests, begun = [], threading.Semaphore(0)

    def slow(lab, chat, points, *, cancel, on_answer):
        requests.append(list(points))
        begun.release()
        assert cancel.wait(timeout=20), "the request was never cancelled"
        return {}

    monkeypatch.setattr(early_answers, "answers_at", slow)
    requests.clear()
    return requests, begun


def plain(html: str) -> str:
    """The text of HTML."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def test_of_a_long_thinking_no_early_answer_is_asked_by_itself(explorer, view) -> None:
    total = explorer.state.steps[-1].kept
    assert total > 300 and explorer.state.answers == {} and not explorer.state.answering
    said = plain(view.answer_here.value)
    assert said.startswith(f"Answer after {total} of {total} thinking tokens: that of this run")
    assert f"({len(explorer.state.steps) + 1}" in view.everywhere.description
    assert view.everywhere.layout.display == "" and view.cancel.layout.display == "none"


def test_the_model_is_asked_where_the_marker_is_moved_and_once(explorer, view, asked) -> None:
    state = explorer.state
    early, late = state.steps[4].kept, state.steps[-2].kept
    for marker in (early, late, early):
        view.marker.value = marker
        explorer.wait()
    assert asked == [[early], [late]]
    assert {kept: answer.text for kept, answer in state.answers.items()} == {
        early: EARLY_ANSWER,
        late: ANSWER,
    }
    said = plain(view.answer_here.value)
    assert "✗ another answer (last numbers: 16, 24)" in said and "16 条腿" in said
    assert [same for _, same in view.thoughts.answers.values()] == [False, True]


def test_asking_is_shown_and_can_be_cancelled_and_asked_again(
    explorer, view, waiting, monkeypatch
) -> None:
    requests, begun = waiting
    view.thoughts.picked = 9
    assert begun.acquire(timeout=20)
    assert plain(view.answer_here.value).endswith("thinking tokens: asking …")
    assert view.thoughts.asking == 9 and view.cancel.layout.display == ""
    assert not view.marker.disabled and not panel(explorer).controls.stop.disabled
    view.cancel.click()
    explorer.wait()
    assert plain(view.answer_here.value).endswith("not asked yet")
    assert view.thoughts.asking == -1 and view.cancel.layout.display == "none"
    monkeypatch.setattr(early_answers, "answers_at", answers_at)
    view.ask.click()
    explorer.wait()
    assert explorer.state.answers[9].text == EARLY_ANSWER
    assert view.ask.layout.display == "none" and requests == [[9]]


def test_moving_on_cancels_the_answer_at_the_place_before(explorer, view, waiting) -> None:
    requests, begun = waiting
    for marker in (5, 8, 11):
        view.thoughts.picked = marker
        assert begun.acquire(timeout=20)
        assert explorer.state.asking == marker and explorer.state.answering
    assert requests == [[5], [8], [11]]


def test_a_failed_answer_says_why_in_its_place_until_the_marker_is_moved(
    explorer, view, monkeypatch
) -> None:
    def broken(*_, **__):
        raise RuntimeError("<b>no more</b> memory")

    monkeypatch.setattr(early_answers, "answers_at", broken)
    view.marker.value = 20
    explorer.wait()
    assert "RuntimeError: &lt;b&gt;no more&lt;/b&gt; memory" in view.answer_here.value
    assert panel(explorer).alert.value == "" and view.ask.layout.display == ""
    view.marker.value = explorer.state.steps[-1].kept
    assert "memory" not in view.answer_here.value


def test_all_steps_are_asked_on_request_without_those_that_are_known(explorer, view, asked) -> None:
    steps = explorer.state.steps
    view.marker.value = steps[0].kept
    explorer.wait()
    view.everywhere.click()
    explorer.wait()
    assert asked[1] == [step.kept for step in steps[:0:-1]] + [0]
    assert set(explorer.state.answers) == {0, *(step.kept for step in steps)}
    assert view.everywhere.layout.display == "none"


def test_a_click_on_a_token_of_the_conversation_moves_the_marker(explorer, view, waiting) -> None:
    chat = explorer.state.current
    assert chat is not None
    # `<think>` and a line break precede the thinking: chip 7 is its sixth token.
    panel(explorer).transcript.selected = 7
    assert explorer.state.marker == 6 and panel(explorer).transcript.marked == 7
    panel(explorer).transcript.selected = len(chat.tokens) - 2
    assert explorer.state.marker == 6


def test_the_text_of_split_characters_is_whole(explorer) -> None:
    texts = ["".join(thought.tokens) for thought in explorer.state.thoughts]
    assert "".join(texts).strip() == long_thinking(4)
    assert any("\u4e00" <= char <= "\u9fff" for char in "".join(texts))


def test_inserted_tokens_do_not_move_the_marker(long_lab) -> None:
    chat = long_lab.chat(
        QUESTION,
        thinking=True,
        sampling=Sampling.greedy(),
        extend=Extension(text="Wait", below=900),
        budget=1000,
    )
    assert chat.forced[: chat.spans["thinking"][1] - chat.spans["prompt"][1]].any()
    steps = steps_of(chat)
    thoughts = thoughts_of(chat, steps, long_lab.tokenizer)
    n_prompt = chat.spans["prompt"][1]
    generated = [
        i for i in range(steps[0].start, steps[-1].end) if not bool(chat.forced[i - n_prompt])
    ]
    for marker in (1, 7, len(generated) - 1, len(generated)):
        assert place_of(steps, thoughts, marker) == generated[marker - 1]
        assert count_at(steps, thoughts, generated[marker - 1]) == marker
    assert place_of(steps, thoughts, 0) == steps[0].start - 1
    assert [thought.counts[-1] for thought in thoughts] == [step.kept for step in steps]
    assert count_at(steps, thoughts, 0) == count_at([], [], 5) == place_of([], [], 3) == -1


def test_a_paragraph_ends_at_an_empty_line_or_after_many_sentences() -> None:
    assert paragraph_starts(["a. ", "b.\n\n", "c.\n", "d. \n \n", "e."]) == [0, 2, 4]
    assert paragraph_starts(["a. "] * (2 * MAX_PARAGRAPH + 1)) == [
        0,
        MAX_PARAGRAPH,
        2 * MAX_PARAGRAPH,
    ]
    assert paragraph_starts([]) == []


@pytest.mark.parametrize(
    ("n", "seconds", "text"),
    [(9, 2.0, "9"), (40, 42.4, "40, about 42 s"), (1200, 600.0, "1,200, about 10 min")],
)
def test_the_cost_of_many_answers_is_said(n: int, seconds: float, text: str) -> None:
    assert cost_text(n, seconds) == text


@pytest.mark.parametrize("kind", [Explorer, RoutingExplorer, ThinkingExplorer])
def test_no_card_lists_the_whole_vocabulary(kind, tiny_tokenizer) -> None:
    """With 151,936 words, what the page gets stays far below one byte for each word."""
    script = Script("One. Two. Three.", answer="Four.")
    lab = scripted_lab(tiny_tokenizer, script, d_vocab=151_936, experts=True)
    explorer = kind(lab, question="Hi")
    explorer._ipython_display_()
    explorer.wait()
    explorer.state.token = 8
    if isinstance(explorer, RoutingExplorer):
        explorer.state.expert = 1
        explorer.write()
        explorer.wait()
        assert "raises" in routing(explorer).logit_effect.value
    sizes = {}
    shown = panel(explorer)
    for tab in ("text", "attention", explorer.opens):
        explorer.state.tab = tab
        explorer.wait()
    for owner in (shown, shown.controls, *shown.views.values()):
        for name, widget in vars(owner).items():
            if isinstance(widget, w.Widget) and name not in ("root", "tabs"):
                values = widget.get_state()
                values.pop("_esm", None)
                sizes[id(owner), name] = len(
                    json.dumps(values, default=lambda data: "x" * len(data))
                )
    explorer.close()
    assert len(sizes) > 20 and sum(sizes.values()) < 151_936
