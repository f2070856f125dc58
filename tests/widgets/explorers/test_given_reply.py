"""A reply that is given to an explorer: it is shown as if the explorer had asked for it."""

import threading
from dataclasses import replace

import pytest

from qwen3lab.generation.reply import Chat
from qwen3lab.widgets import AttentionExplorer, Explorer
from qwen3lab.widgets.explorers.given_reply import chips_of, question_of
from tests.fake_lab import ANSWER, DENSE, THOUGHTS, FakeLab
from tests.widgets.workbench.benches import attention


def reply(lab: FakeLab) -> Chat:
    """A recorded reply of the lab to "How many?"."""
    chat = lab.chat("How many?", on_step=lambda _: None, cancel=threading.Event())
    lab.asked.clear()
    messages = [{"role": "user", "content": "How many?"}]
    return replace(chat, messages=messages, thinking_asked=True)


def test_it_is_shown_and_nothing_is_asked() -> None:
    lab = FakeLab()
    chat = reply(lab)
    explorer = Explorer(lab, chat=chat, thinking=False)
    explorer._ipython_display_()
    assert explorer.wait() is chat and explorer.state.current is chat
    assert lab.asked == []
    shown = explorer.view.transcript.reply
    assert shown["question"] == explorer.state.question == "How many?"
    assert [chip[0] for chip in shown["chips"]] == [*THOUGHTS, *ANSWER]
    assert attention(explorer).map.heatmap is not None
    assert explorer.state.thinking  # As the reply was asked.


def test_the_next_run_asks() -> None:
    lab = FakeLab()
    explorer = Explorer(lab, chat=reply(lab))
    found = explorer.run()
    assert [question for question, _ in lab.asked] == ["How many?"]
    assert explorer.state.current is found and explorer.state.run == 2


def test_its_tokens_are_in_the_parts_that_a_run_streams_them_in() -> None:
    lab = FakeLab()
    explorer = Explorer(lab, question="How many?")
    explorer.run()
    assert chips_of(explorer.state.current) == explorer.state.chips


def test_a_thinking_that_is_still_open_is_all_thinking() -> None:
    chat = reply(FakeLab())
    cut = replace(
        chat,
        tokens=chat.tokens[:2],
        entropy=chat.entropy[:2],
        logprobs=chat.logprobs[:2],
        forced=chat.forced[:2],
    )
    assert [chip.part for chip in chips_of(cut)] == ["thinking", "thinking"]


def test_the_attention_explorer_takes_the_recording_of_a_given_reply() -> None:
    lab = FakeLab()
    chat = reply(lab)
    explorer = AttentionExplorer(lab, chat=chat)
    assert explorer.wait() is chat
    assert explorer.state.recording is chat.recording and explorer.state.scores is not None


def test_a_question_can_be_given_with_it() -> None:
    lab = FakeLab()
    chat = replace(reply(lab), messages=[])
    assert question_of(chat) == ""
    assert Explorer(lab, chat=chat, question="How many?").state.asked == "How many?"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"recording": None}, r"was not recorded: ask with lab\.chat\(question, record=True\)"),
        ({}, "sizes differ from those of fake"),
    ],
)
def test_a_reply_that_cannot_be_shown_is_refused_with_the_way_out(change, says) -> None:
    lab = FakeLab() if change else FakeLab(DENSE)
    with pytest.raises(ValueError, match=says):
        Explorer(lab, chat=replace(reply(FakeLab()), **change))
