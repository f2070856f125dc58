"""The compare view: a second run beside the run, aligned, and a signed map of what differs."""

import threading

import pytest
import torch

import qwen3lab
from qwen3lab.analysis.alignment import alignment
from qwen3lab.analysis.differences import attention_difference, routing_difference
from qwen3lab.widgets import Workbench
from qwen3lab.widgets.explorers.compare_state import (
    ATTENTION,
    NOTHING,
    OTHER_BUDGET,
    OTHER_MODE,
    OTHER_MODEL,
    OTHER_QUESTION,
    PREDICTION,
    ROUTING,
    WITHOUT_CHANGES,
)
from qwen3lab.widgets.workbench.asking import reply_of
from qwen3lab.widgets.workbench.changes import Scale
from qwen3lab.widgets.workbench.views.compare import ComparePane
from tests.fake_lab import DENSE, FakeLab
from tests.widgets.workbench.benches import compare, panel, routing

QUESTION = "7+2*3-1*7+3=?"


def opened(lab, **options) -> tuple[Workbench, ComparePane]:
    """A displayed workbench whose first run has ended, and its compare view."""
    bench = Workbench(lab, **{"question": QUESTION, **options})
    panel(bench)
    bench.wait()
    return bench, compare(bench)


def kinds(view: ComparePane) -> list[str]:
    return [value for _, value in view.compare.options]


def asked_of(tiny_lab, **options):
    """The reply that a workbench gets, asked directly."""
    bench = Workbench(tiny_lab)
    options = bench.asked_options | options
    return bench.reply(options.pop("question", QUESTION), record=True, **options)


def test_the_run_is_compared_with_the_other_thinking_mode(tiny_lab) -> None:
    bench, view = opened(tiny_lab)
    assert view.map.map["empty"] == "Choose above what to compare the run with."
    view.compare.value = OTHER_MODE
    bench.wait()
    state = bench.state
    expected = asked_of(tiny_lab, thinking=False)
    assert state.other.token_ids == expected.token_ids != state.current.token_ids
    assert (state.this_name, state.other_name) == ("with thinking", "without thinking")
    view_title = "Attention of layer 3, head 0: with thinking minus without thinking"
    assert view.map.heatmap.title == view_title
    aligned = alignment(state.recording, state.other.recording)
    values = attention_difference(aligned, 3, 0).values
    torch.testing.assert_close(view.map.heatmap.values, values, equal_nan=True)
    assert view.map.heatmap.high == -view.map.heatmap.low == float(values.nan_to_num().abs().max())
    n = len(aligned)
    assert f"{n} tokens aligned, of {len(aligned.one)} and {len(aligned.other)}" in view.note.value


def test_the_map_follows_what_is_chosen_and_the_picks(tiny_lab) -> None:
    bench, view = opened(tiny_lab)
    view.compare.value = OTHER_MODE
    bench.wait()
    state = bench.state
    state.layer, state.head = 1, 2
    assert view.map.heatmap.title.startswith("Attention of layer 1, head 2:")
    view.compared.value, state.routing_layer = ROUTING, 4
    expected = routing_difference(bench.compare.alignment(), 4).values
    torch.testing.assert_close(view.map.heatmap.values, expected, equal_nan=True)
    view.compared.value = PREDICTION
    assert view.map.heatmap.rows.labels == ("surprisal", "KL")
    assert view.map.heatmap.value_title == "difference (nats)"
    view.align.value = "spans"
    assert bench.compare.alignment().pairs == (
        alignment(state.recording, state.other.recording, by="spans").pairs
    )
    assert len(view.map.heatmap.columns.labels) == len(bench.compare.alignment())


def test_a_clicked_cell_picks_its_token_in_every_view(tiny_lab) -> None:
    bench, view = opened(tiny_lab)
    view.compare.value = OTHER_MODE
    bench.wait()
    pairs = bench.compare.alignment().pairs
    place = len(pairs) - 2
    assert pairs[place][0] != place, "the aligned tokens are not those of the same number"
    view.map.selected = [place, 0]
    here, there = pairs[place]
    assert bench.state.token == here and view.map.marked == [place, -1]
    assert f"Token {here} " in panel(bench).notes.value
    assert f"corresponds to token {there} " in view.pair.value
    view.compared.value = ROUTING
    view.map.selected = [5, 2]
    assert (bench.state.token, bench.state.expert) == (pairs[2][0], 5)
    assert view.map.marked == [5, 2]
    unaligned = next(i for i in range(len(bench.state.recording)) if i not in dict(pairs))
    bench.state.token = unaligned
    assert "corresponds to no token of the other run" in view.pair.value
    assert view.map.marked == [5, -1]


def test_choices_stay_and_the_second_run_is_made_again_with_the_next_run(tiny_lab) -> None:
    bench, view = opened(tiny_lab)
    state = bench.state
    state.compare, state.compare_budget = OTHER_BUDGET, 2
    bench.wait()
    before = state.other
    assert (
        state.other_name == "budget 2" and before.thinking_tokens == 2 and before.stop == "budget"
    )
    view.compared.value, state.align = ROUTING, "spans"
    state.question = "6-2*3=?"
    bench.start()
    assert state.other is None
    bench.wait()
    assert state.other is not before
    assert state.other.messages[-1]["content"] == "6-2*3=?"
    assert (state.compare, state.compare_budget) == (OTHER_BUDGET, 2)
    assert (view.compared.value, view.align.value) == (ROUTING, "spans")


def test_the_second_run_waits_until_the_tab_is_opened() -> None:
    lab = FakeLab()
    bench = Workbench(lab, question="Hi")
    bench.state.compare = OTHER_MODE
    bench.run()
    assert len(lab.asked) == 1
    compare(bench)
    bench.wait()
    assert len(lab.asked) == 2 and lab.asked[1][1]["thinking"] is False
    assert bench.state.other is not None


def test_another_question_is_compared_word_by_word(tiny_lab) -> None:
    bench, view = opened(tiny_lab, question="3+4=?")
    view.compare.value = OTHER_QUESTION
    assert view.map.map["empty"] == "Type the other question above, and press Enter."
    view.question.value = "3+5=?"
    bench.wait()
    state = bench.state
    assert state.other.token_ids == asked_of(tiny_lab, question="3+5=?").token_ids
    assert "<mark>8</mark>" in view.texts.value and "<mark>7</mark>" in view.texts.value
    assert "another answer" in view.texts.value
    assert "≠" in "".join(view.map.heatmap.columns.labels)
    place = view.map.heatmap.columns.labels.index("4≠5")
    assert bench.compare.alignment().tokens[place] == ("4", "5")


def test_text_of_a_question_and_of_a_reply_is_escaped() -> None:
    lab = FakeLab()
    bench, view = opened(lab, question="Hi")
    bench.state.compare, bench.state.other_question = OTHER_QUESTION, "<b>who?</b>"
    bench.wait()
    assert "&lt;b&gt;who?&lt;/b&gt;" in view.texts.value
    assert "&lt;b&gt;two&lt;/b&gt;" in view.texts.value and "<b>" not in view.texts.value


def test_changes_are_left_out_only_where_the_run_had_some(tiny_lab) -> None:
    bench, view = opened(tiny_lab, thinking=False)
    assert WITHOUT_CHANGES not in kinds(view)
    bench.state.expert = int(bench.state.recording.routing.layer(3).experts[0, 0])
    bench.experts.switch()
    bench.wait()
    assert WITHOUT_CHANGES in kinds(view)
    view.compare.value = WITHOUT_CHANGES
    bench.wait()
    state = bench.state
    assert (state.this_name, state.other_name) == ("with the changes", "without the changes")
    assert state.other.token_ids == asked_of(tiny_lab, thinking=False).token_ids
    weights = state.other.recording.routing.layer(3)
    assert (weights.experts == state.expert).any(), "the expert is on in the second run"
    bench.experts.switch_all_on()
    bench.wait()
    assert view.compare.value == WITHOUT_CHANGES, "what is chosen stays in the list"
    assert "the run has no changes to leave out" in view.problem.value
    view.compare.value = NOTHING
    assert WITHOUT_CHANGES not in kinds(view) and view.problem.value == ""


def test_the_run_without_the_changes_is_not_asked_a_second_time(tiny_lab, monkeypatch) -> None:
    bench, view = opened(tiny_lab, thinking=False)
    bench.change(Scale("mlp", 4))
    asked = []
    chat = type(tiny_lab).chat
    monkeypatch.setattr(
        type(tiny_lab), "chat", lambda *args, **kwargs: asked.append(1) or chat(*args, **kwargs)
    )
    bench.run()
    view.compare.value = WITHOUT_CHANGES
    bench.wait()
    assert bench.state.other is bench.state.baseline is not None
    assert (bench.state.this_name, bench.state.other_name) == (
        "with the changes",
        "without the changes",
    )
    assert len(asked) == 1, "only the run with the change"
    view.compared.value = PREDICTION
    assert view.map.heatmap is not None, "the run that was kept has what logits are made of"


def test_the_run_without_the_changes_is_shown_when_it_is_complete(tiny_lab) -> None:
    bench = Workbench(tiny_lab, question=QUESTION, thinking=False)
    view = compare(bench)
    bench.wait()
    bench.state.question = "3+4=?"  # There is no run of it without the change yet.
    bench.change(Scale("mlp", 4))
    bench.state.compare = WITHOUT_CHANGES
    bench.run()
    bench.wait()
    assert bench.state.other is bench.state.baseline is not None and not bench.state.comparing
    view.compared.value = PREDICTION
    assert view.map.heatmap is not None


def test_a_jump_picks_the_token_whose_prediction_differs_most(tiny_lab) -> None:
    bench, view = opened(tiny_lab, thinking=False)
    view.most.click()
    assert "there is no second run yet" in bench.state.compare_problem
    bench.change(Scale("mlp", 4))
    bench.run()
    view.compare.value = WITHOUT_CHANGES
    bench.wait()
    state, other = bench.state, bench.state.baseline.recording
    one = [state.recording.logits[:].double(), other.logits[:].double()]
    n = min(map(len, one))
    same = (state.recording.token_ids[:n] == other.token_ids[:n]).cumprod(0).sum()
    logs = [each[: same - 1].log_softmax(-1) for each in one]
    expected = (logs[0].exp() * (logs[0] - logs[1])).sum(-1)  # Of the token after each.
    bench.compare.jump()
    best = int(expected.argmax()) + 1
    assert state.token == best
    assert state.changed_most.startswith(f"largest change: token {best} “")
    assert f"KL {float(expected.max()):.3g} nats" in state.changed_most
    assert state.changed_most in view.changed.value
    bench.compare.jump()
    assert state.token == int(expected.argsort(descending=True)[1]) + 1
    assert state.changed_most.startswith("2nd largest change")
    state.token = best
    assert state.changed_most == "", "another pick ends what the jump said"


def test_a_run_with_changes_differs_from_the_second_one_in_what_was_chosen_alone(tiny_lab) -> None:
    bench, _ = opened(tiny_lab, thinking=False)
    state = bench.state
    state.expert = int(state.recording.routing.layer(3).experts[0, 0])
    bench.experts.switch()
    state.compare = OTHER_MODE
    bench.wait()
    assert not (state.other.recording.routing.layer(3).experts == state.expert).any()


def test_another_revision_is_compared_with_its_own_reply(tiny_lab) -> None:
    early = qwen3lab.load("tiny-moe", revision="step2000", device="cpu")
    bench, view = opened([tiny_lab, early])
    assert [name for name, _ in view.model.options] == ["tiny-moe@step2000"]
    view.compare.value = OTHER_MODEL
    bench.wait()
    state = bench.state
    assert state.other.recording.model_name == early.name == state.other_name
    assert state.other.token_ids == reply_of(early, QUESTION, **bench.asked_options).token_ids
    for compared in (ATTENTION, ROUTING, PREDICTION):
        view.compared.value = compared
        assert view.map.heatmap.title.endswith(": tiny-moe minus tiny-moe@step2000")


def test_models_of_different_vocabularies_are_not_compared_by_their_predictions(tiny_lab) -> None:
    """The first edition has as many tokens, and other numbers for most of them."""
    first = qwen3lab.load("tiny-moe", revision="v1", device="cpu")
    assert first.config.d_vocab == tiny_lab.config.d_vocab
    bench, view = opened([tiny_lab, first], question="Lily has 3 pens.")
    view.compare.value = OTHER_MODEL
    bench.wait()
    assert view.map.heatmap is not None, "attention needs no common vocabulary"
    assert all(one == other for one, other in bench.compare.alignment().tokens)
    view.compared.value = PREDICTION
    assert view.map.map["empty"] == (
        "Predictions cannot be compared: tiny-moe and tiny-moe@v1 have different vocabularies."
    )
    assert panel(bench).stage_alert.value == ""


def test_a_dense_model_is_compared_in_what_it_has() -> None:
    lab, dense = FakeLab(), FakeLab(DENSE)
    dense.tokenizer = lab.tokenizer
    bench, view = opened([lab, dense], question="Hi")
    bench.state.compare = OTHER_MODEL
    bench.wait()
    assert view.map.heatmap is not None
    view.compared.value = ROUTING
    assert "it has no experts" in view.map.map["empty"]
    assert routing(bench).load.heatmap.title == "Load of each expert"


def test_without_another_model_none_is_offered_and_asking_for_one_says_the_way_out() -> None:
    bench, view = opened(FakeLab(), question="Hi")
    assert OTHER_MODEL not in kinds(view)
    bench.state.compare = OTHER_MODEL
    assert "there is no other model: create the workbench with several" in view.problem.value


def test_the_second_run_can_be_stopped_and_made_again() -> None:
    lab = FakeLab(pause_at=3)
    lab.go_on.set()
    bench, view = opened(lab, question="Hi")
    lab.go_on.clear()
    lab.paused.clear()
    view.compare.value = OTHER_MODE
    assert lab.paused.wait(timeout=20)
    assert view.again.description == "Stop" and bench.state.can_stop
    assert view.map.map["empty"].startswith("Running the other one: ")
    bench.stop()
    lab.go_on.set()
    bench.wait()
    state = bench.state
    assert state.other is None and not state.comparing and not state.can_stop
    assert "stopped before the second run was complete" in view.problem.value
    assert state.current is not None and state.error == "", "the run itself is complete"
    view.again.click()
    bench.wait()
    assert state.other is not None and view.problem.value == ""


def test_the_result_of_a_second_run_that_is_no_longer_wanted_is_dropped() -> None:
    lab = FakeLab(pause_at=3)
    lab.go_on.set()
    bench, view = opened(lab, question="Hi")
    lab.go_on.clear()
    lab.paused.clear()
    view.compare.value = OTHER_MODE
    assert lab.paused.wait(timeout=20)
    view.compare.value = OTHER_BUDGET
    lab.go_on.set()
    bench.wait()
    assert bench.state.other_name == "budget 8" and view.problem.value == ""
    assert lab.asked[-1][1]["budget"] == 8


def test_an_error_of_the_second_run_is_shown_in_the_tab() -> None:
    lab = FakeLab()
    bench, view = opened(lab, question="Hi")
    lab.error = RuntimeError("<out of memory>")
    view.compare.value = OTHER_MODE
    bench.wait()
    assert "RuntimeError: &lt;out of memory&gt;" in view.problem.value
    assert panel(bench).alert.value == "" and not bench.state.comparing


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"compare": OTHER_BUDGET, "compare_budget": 16}, "the run has the budget 16 already"),
        ({"compare": OTHER_QUESTION, "other_question": "Hi"}, "this is the question of the run"),
        ({"compare": OTHER_QUESTION, "other_question": " "}, "the other question is empty"),
        ({"compare": NOTHING}, "choose what to compare the run with"),
    ],
)
def test_a_second_run_in_which_nothing_differs_is_refused_in_the_tab(values, says) -> None:
    lab = FakeLab()
    bench, view = opened(lab, question="Hi", budget=16)
    for name, value in values.items():
        setattr(bench.state, name, value)
    bench.wait()
    asked = len(lab.asked)
    bench.compare.start()
    assert says in view.problem.value and bench.state.other is None
    bench.wait()
    assert len(lab.asked) == asked


def test_a_reply_that_one_has_is_compared_without_a_second_run(tiny_lab) -> None:
    one, other = (tiny_lab.chat("3+4=?", thinking=each, record=True) for each in (True, False))
    bench = Workbench(one)
    view = compare(bench)
    assert "There is no model to ask" in view.map.map["empty"]
    bench.compare.show(other, "direct", this_name="thinking")
    assert view.map.heatmap.title == "Attention of layer 3, head 0: thinking minus direct"
    assert view.again.disabled
    with pytest.raises(ValueError, match="the reply was not recorded"):
        bench.compare.show(tiny_lab.chat("3+4=?", max_new_tokens=1), "short")


def test_the_load_of_the_experts_is_compared_with_the_second_run(tiny_lab) -> None:
    bench, _ = opened(tiny_lab)
    view = routing(bench)
    view.compare.click()
    assert bench.state.tab == "compare"
    bench.state.compare = OTHER_MODE
    bench.wait()
    load = routing(bench).load.heatmap
    assert load.title == "Load: this run minus without thinking"
    torch.testing.assert_close(load.values.sum(dim=1), torch.zeros(6), atol=1e-4, rtol=0)
    assert "Jensen-Shannon" in view.note.value


def test_a_long_text_is_shown_by_the_page_of_the_picked_token(tiny_lab, monkeypatch) -> None:
    monkeypatch.setattr("qwen3lab.widgets.explorers.compare_compute.MAX_SIDE", 10)
    bench, view = opened(tiny_lab)
    view.compare.value = OTHER_MODE
    bench.wait()
    pairs = bench.compare.alignment().pairs
    assert len(pairs) > 20
    assert view.map.heatmap.values.shape == (10, 10) and "shown: 0 to 9" in view.note.value
    bench.state.token = pairs[13][0]
    assert view.map.heatmap.columns.first == 10 and view.map.marked == [13, -1]
    assert "shown: 10 to 19, around the picked token" in view.note.value
    view.map.selected = [14, 11]  # Positions on the whole axis, as the page sends them.
    assert bench.state.token == pairs[14][0]


def test_a_second_run_that_goes_on_ends_when_the_workbench_is_closed() -> None:
    lab = FakeLab(pause_at=3)
    lab.go_on.set()
    bench, view = opened(lab, question="Hi")
    lab.go_on.clear()
    lab.paused.clear()
    view.compare.value = OTHER_MODE
    assert lab.paused.wait(timeout=20)
    thread = next(
        each
        for each in threading.enumerate()
        if each in (bench.compare.worker.executor._threads or ())
    )
    bench.close()
    lab.go_on.set()
    thread.join(timeout=20)
    assert not thread.is_alive() and bench.state.other is None
