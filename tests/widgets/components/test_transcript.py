"""What a conversation sends to the page."""

import json
from typing import Any

import pytest

from qwen3lab.widgets.components.transcript import Chip, Progress, Transcript


class Heard(Transcript):
    """A transcript that keeps its messages instead of sending them."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        super().__init__()
        self.messages.clear()

    def _send(self, msg, buffers=None) -> None:
        self.messages.append(msg)

    def new_tokens(self) -> list[dict[str, Any]]:
        """The messages with tokens since the last call."""
        found = [m["content"] for m in self.messages if m["method"] == "custom"]
        self.messages.clear()
        return found


@pytest.fixture
def transcript() -> Heard:
    return Heard()


def chips(n: int) -> list[Chip]:
    return [Chip(f" word{i}", "thinking", 0.5, -0.5, False) for i in range(n)]


def test_each_token_is_sent_once(transcript) -> None:
    for n in (1, 4, 4, 9):
        transcript.show(1, "Hi", chips(n), Progress())
    sent = [(m["first"], [row[0] for row in m["chips"]]) for m in transcript.new_tokens()]
    assert sent == [
        (0, [" word0"]),
        (1, [" word1", " word2", " word3"]),
        (4, [f" word{i}" for i in range(4, 9)]),
    ]
    assert [row[0] for row in transcript.reply["chips"]] == [f" word{i}" for i in range(9)]


def test_a_new_run_starts_from_the_first_token(transcript) -> None:
    transcript.show(1, "Hi", chips(3), Progress())
    transcript.show(2, "And now?", chips(2), Progress())
    first, second = transcript.new_tokens()
    assert (first["run"], second["run"]) == (1, 2)
    assert second["first"] == 0 and len(second["chips"]) == 2 and second["question"] == "And now?"


def test_a_page_gets_the_tokens_that_it_misses(transcript) -> None:
    transcript.show(2, "Hi", chips(5), Progress())
    transcript.new_tokens()
    for run, tokens, first in ((2, 3, 3), (1, 3, 0), (2, 99, 0), (0, 0, 0)):
        transcript.answer({"kind": "have", "run": run, "tokens": tokens})
        (message,) = transcript.new_tokens()
        assert message["first"] == first and len(message["chips"]) == 5 - first
    transcript.answer({"kind": "have", "run": 2, "tokens": 5})
    transcript.answer({"kind": "other"})
    transcript.answer({"kind": "have", "run": "2", "tokens": None})
    assert transcript.new_tokens() == []


def test_a_page_that_opens_later_gets_the_whole_reply(transcript) -> None:
    transcript.show(1, "Hi", chips(5), Progress())
    assert len(transcript.get_state()["reply"]["chips"]) == 5


def test_a_long_reply_costs_few_bytes_for_each_token(transcript) -> None:
    """2,000 tokens in 200 updates; with the whole reply in each it was over 10,000 a token."""
    reply = chips(2000)
    for n in range(10, 2001, 10):
        transcript.show(1, "Hi", reply[:n], Progress(thinking_tokens=n))
    sizes = [len(json.dumps(message)) for message in transcript.messages]
    assert sum(sizes) / 2000 < 200
    assert max(sizes) < 3000 and len(sizes) <= 2 * 200
