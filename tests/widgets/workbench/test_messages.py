"""What a pick sends to the page: how many messages, of which widgets, and how large they are."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import comm
import ipywidgets as w
import pytest
from comm.base_comm import BaseComm

from qwen3lab.widgets import Workbench
from tests.widgets.workbench.benches import attention, panel, routing, text

QUESTION = "lamp 2, book 7, cat 1. book?"
Message = tuple[str, dict[str, Any], list[Any]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Message]]:
    """The messages of all widgets that are made in the test: comm, data and buffers."""
    found: list[Message] = []

    class Noted(BaseComm):
        def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
            found.append((self.comm_id, data or {}, list(buffers or [])))

    monkeypatch.setattr(comm, "create_comm", Noted)
    return found


@pytest.fixture
def bench(sent: list[Message], tiny_lab) -> Workbench:
    """A displayed workbench whose first run has ended, with a token picked."""
    bench = Workbench(tiny_lab, question=QUESTION, thinking=False)
    panel(bench)
    bench.wait()
    bench.state.token = 12
    return bench


def page_sets(widget: w.Widget, **state: object) -> None:
    """What a click on the page sends to a widget."""
    data = {"method": "update", "state": state, "buffer_paths": []}
    widget._handle_msg({"content": {"data": data}, "buffers": []})


def messages(sent: list[Message], act: Callable[[], None]) -> list[tuple[str, set[str], int]]:
    """The widget, the traits and the bytes of each message that an act sends."""
    sent.clear()
    act()
    names = {
        each.comm.comm_id: type(each).__name__
        for each in w.widgets.widget._instances.values()
        if each.comm is not None
    }
    return [
        (names[of], {*data["state"]}, len(json.dumps(data, default=str)) + sum(map(len, buffers)))
        for of, data, buffers in sent
    ]


def test_a_picked_token_sends_one_message_to_each_widget_that_shows_it(bench, sent) -> None:
    text(bench)
    found = messages(sent, lambda: page_sets(panel(bench).transcript, selected=0))
    assert bench.state.token == bench.state.current.spans["prompt"][1]
    assert sorted(name for name, *_ in found) == [
        *("AlternativeList", "Dropdown", "HTML", "TextView", "Transcript")
    ]
    (mark,) = (traits for name, traits, _ in found if name == "Transcript")
    assert mark == {"marked", "selected"}, "the pick and its reset are one message"
    assert sum(size for *_, size in found) < 2_000


def test_a_picked_layer_sends_its_map_and_nothing_of_other_tabs(bench, sent) -> None:
    text(bench), routing(bench)
    view = attention(bench)
    bench.wait()
    layer = (bench.state.layer + 1) % bench.config.n_layers
    found = messages(sent, lambda: page_sets(view.pickers.layer, value=layer))
    assert bench.state.layer == layer
    kinds = [name for name, *_ in found]
    assert "NumberPicker" not in kinds, "what the page has set does not come back"
    assert sorted(kinds) == ["Canvas", "Canvas", "Dropdown", "HTML", "HTML"]
    cells = len(bench.state.recording) ** 2
    assert cells < sum(size for *_, size in found) < 2 * cells + 20_000


def test_a_number_of_a_hidden_tab_is_sent_when_the_tab_is_shown(bench, sent) -> None:
    hidden, shown = text(bench), attention(bench)
    page_sets(shown.pickers.layer, value=4)
    assert (bench.state.layer, hidden.pickers.layer.value) != (4, 4)
    text(bench)
    assert hidden.pickers.layer.value == 4


def test_a_picked_expert_sends_less_than_its_layers_map(bench, sent) -> None:
    view = routing(bench)
    bench.state.expert = 2
    bench.wait()
    found = messages(sent, lambda: page_sets(view.expert, value=3))
    assert bench.state.expert == 3
    assert len(found) <= 5 and {"map"} not in [traits for _, traits, _ in found]
    assert sum(size for *_, size in found) < 6_000
