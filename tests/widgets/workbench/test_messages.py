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
        *("AlternativeList", "HTML", "TextView", "Transcript")
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
    assert sorted(kinds) == ["Canvas", "Canvas", "HTML"], "the map, the frame, the token's card"
    assert sorted(traits for _, traits, _ in found if "map" in traits) == [{"map", "caption"}]
    cells = len(bench.state.recording) ** 2
    assert cells < sum(size for *_, size in found) < 2 * cells + 20_000


@pytest.mark.parametrize("pane", ["thumbnails", "scores"])
@pytest.mark.parametrize("trait", ["layer", "head"])
def test_a_picked_layer_or_head_is_three_messages(bench, sent, pane: str, trait: str) -> None:
    view = attention(bench)
    bench.state.pane = pane
    bench.wait()
    picker = getattr(view.pickers, trait)
    found = messages(sent, lambda: page_sets(picker, value=2))
    assert getattr(bench.state, trait) == 2
    assert [traits for name, traits, _ in found if name == "Canvas" and "map" not in traits] == [
        {"framed"}
    ]
    assert len(found) == 3


def test_a_picked_layer_of_the_shaded_text_is_two_messages(bench, sent) -> None:
    view = text(bench)
    bench.state.quantity = "attention from the picked token"
    found = messages(sent, lambda: page_sets(view.pickers.layer, value=2))
    assert sorted(name for name, *_ in found) == ["HTML", "TextView"]


def test_a_picked_layer_of_the_routing_is_four_messages(bench, sent) -> None:
    view = routing(bench)
    found = messages(sent, lambda: page_sets(view.pickers.routing_layer, value=2))
    maps = sorted(sorted(traits) for name, traits, _ in found if name == "Canvas")
    assert maps == [["caption", "marked"], ["map"], ["marked"]]
    assert len(found) == 4


def test_menus_of_changes_are_sent_only_while_their_card_is_unfolded(bench, sent) -> None:
    card = panel(bench).changes
    pick = panel(bench).bench.state
    assert "Dropdown" not in {n for n, *_ in messages(sent, lambda: setattr(pick, "layer", 1))}
    page_sets(card.fold, value=True)
    assert card.what.options[0] == (f"head 1.{pick.head}", "head")
    assert "Dropdown" in {n for n, *_ in messages(sent, lambda: setattr(pick, "layer", 3))}


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
