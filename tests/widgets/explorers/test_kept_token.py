"""The picked token after the same question was asked again."""

from dataclasses import replace
from threading import Event

import pytest

from qwen3lab.generation.reply import Chat
from qwen3lab.widgets import Explorer
from qwen3lab.widgets.explorers.kept_token import find_token, picked_token
from tests.fake_lab import PROMPT, FakeLab

START = len(PROMPT)


@pytest.fixture
def chat() -> Chat:
    """Seven prompt tokens 0 to 6, then the reply's tokens 0 to 7: thinking 0 to 2, answer 5, 6."""
    return FakeLab().chat("Hi", on_step=lambda step: None, cancel=Event())


def reply(chat: Chat, ids: list[int], thinking: tuple[int, int], answer: tuple[int, int]) -> Chat:
    """The same prompt with another reply; spans count from the start of the reply."""
    spans = {"prompt": (0, START)}
    spans |= {
        name: (START + first, START + end)
        for name, (first, end) in (("thinking", thinking), ("answer", answer))
    }
    return replace(chat, token_ids=ids, spans=spans)


def test_a_token_at_the_same_position_is_kept(chat) -> None:
    for position in (0, 4, START, START + 6):
        assert find_token(chat, picked_token(chat, position)) == position


def test_a_token_that_has_moved_is_found_by_its_occurrence_in_its_part(chat) -> None:
    before = reply(chat, [9, 1, 9, 2, 9], (0, 3), (4, 5))
    after = reply(chat, [1, 1, 9, 1, 9, 2, 2, 9], (0, 5), (7, 8))
    assert find_token(after, picked_token(before, START)) == START + 2
    assert find_token(after, picked_token(before, START + 4)) == START + 7


def test_a_token_that_no_longer_occurs_is_dropped(chat) -> None:
    before = reply(chat, [9, 1, 9], (0, 3), (3, 3))
    after = reply(chat, [1, 9], (0, 2), (2, 2))
    assert find_token(after, picked_token(before, START + 2)) == -1
    assert picked_token(chat, -1) is None and picked_token(chat, 999) is None
    assert find_token(chat, None) == -1


def test_asking_again_keeps_the_picked_token_and_another_question_does_not() -> None:
    explorer = Explorer(FakeLab(), question="Hi")
    explorer.run()
    explorer.state.token = START + 2
    explorer.run()
    assert explorer.state.token == START + 2
    explorer.state.question = "Another?"
    explorer.run()
    assert explorer.state.token == -1


def test_a_failed_run_does_not_lose_the_picked_token() -> None:
    lab = FakeLab()
    explorer = Explorer(lab, question="Hi")
    explorer.run()
    explorer.state.token = START + 2
    lab.error = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        explorer.run()
    assert explorer.state.token == -1
    lab.error = None
    explorer.run()
    assert explorer.state.token == START + 2
