"""The code that makes a view again: it is run, and makes the same view."""

import pytest

from qwen3lab.widgets import Workbench
from qwen3lab.widgets.workbench.changes import Route, Scale

PICKED = ("layer", "head", "routing_layer", "expert", "token", "tab", "quantity", "notes", "hook")


def run(bench: Workbench) -> Workbench:
    """The workbench that the code of another one makes."""
    names: dict[str, object] = {}
    exec(compile(bench.code, "code", "exec"), names)
    found = names["bench"]
    assert isinstance(found, Workbench)
    return found


def picks(bench: Workbench) -> dict[str, object]:
    return {name: getattr(bench.state, name) for name in PICKED}


@pytest.mark.parametrize("thinking", [True, False])
def test_the_code_makes_the_same_run_and_the_same_picks(tiny_lab, thinking) -> None:
    bench = Workbench(tiny_lab, question="lamp 2, \"'book\\ 7. book?", thinking=thinking, budget=4)
    bench.state.greedy, bench.state.temperature, bench.state.seed = False, 1.3, 5
    bench.run()
    bench.state.layer, bench.state.head, bench.state.token = 1, 2, 7
    bench.state.expert, bench.state.tab = 3, "raw"
    bench.note("it says \"'\n\\ here")
    again = run(bench)
    assert again.state.current.token_ids == bench.state.current.token_ids
    assert again.state.asked == bench.state.asked and picks(again) == picks(bench)


def test_the_code_is_of_the_run_and_not_of_what_is_typed_after_it(tiny_lab) -> None:
    bench = Workbench(tiny_lab, question="3+4=?", thinking=False)
    bench.run()
    bench.state.question, bench.state.thinking = "6-2=?", True
    again = run(bench)
    assert again.state.asked == "3+4=?" and again.state.asked_thinking is False


def test_the_code_makes_the_same_changes(tiny_lab) -> None:
    bench = Workbench(tiny_lab, question="3+4=?", thinking=False)
    changes = (Route(0, 1), Route(2, 5), Scale("mlp", 3, by=0.5))
    bench.change(*changes)
    bench.run()
    again = run(bench)
    assert again.state.asked_changes == changes
    assert 1 not in again.state.recording.routing.layer(0).experts
    assert 5 not in again.state.recording.routing.layer(2).experts


def test_a_recording_is_recorded_again_from_its_tokens(tiny_lab) -> None:
    recording = tiny_lab.record("3+4=?")
    again = run(Workbench(recording))
    assert again.state.recording.token_ids.tolist() == recording.token_ids.tolist()
