"""Changes of the model in a workbench: put in force, listed, removed, compared, copied."""

import json

import pytest
import torch
import traitlets

from qwen3lab.interventions import rerouting, scaling
from qwen3lab.widgets import Workbench
from qwen3lab.widgets.workbench.changes import (
    Hide,
    Patch,
    ReadAs,
    Route,
    Scale,
    Steer,
    as_json,
    code_of,
    from_json,
    with_change,
)
from qwen3lab.widgets.workbench.views.changes_card import ChangesCard
from tests.widgets.workbench.benches import panel, routing, thinking, why

QUESTION = "lamp 2, book 7, cat 1. book?"
CHANGES = (
    Scale("head", 2, 1),
    Scale("mlp", 1, by=0.5, first=3, end=4),
    Scale("layer", 3, by=2.0, first=5),
    Scale("expert", 3, 2, by=2.0),
    Route(2, 5),
    Route(2, 6, on=True),
    Hide(4, 6),
    ReadAs(5, 60, "x"),
    Steer(4, 8, 50, 51, -0.123456789, "y"),
    Patch(2, 3, (10, 11, 12, 13), "other"),
)


@pytest.fixture
def bench(tiny_lab) -> Workbench:
    """A displayed workbench whose first run has ended."""
    bench = Workbench(tiny_lab, question=QUESTION, thinking=False)
    panel(bench)
    bench.wait()
    return bench


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.title)
def test_the_copied_python_makes_the_same_edits(tiny_lab, change) -> None:
    ids = list(range(10, 26))
    place: dict = {"lab": tiny_lab}
    exec(code_of([change]), place)
    expected = tiny_lab.record(ids, edits=[change.intervention(tiny_lab)]).logits
    assert torch.equal(tiny_lab.record(ids, edits=place["edits"]).logits, expected)
    assert not torch.equal(tiny_lab.record(ids).logits, expected)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.title)
def test_a_change_comes_back_from_its_json(change) -> None:
    assert from_json(json.loads(json.dumps(as_json(change)))) == change


@pytest.mark.parametrize(
    "values", [3, {}, {"change": "Lambda"}, {"change": "Hide"}, {"change": "Hide", "x": 2}]
)
def test_what_is_no_change_is_refused(values) -> None:
    with pytest.raises(ValueError, match=r"is no change|cannot be read"):
        from_json(values)


def test_a_change_of_the_same_part_takes_the_place_of_the_old_one() -> None:
    half, off, other = Scale("mlp", 1, by=0.5), Scale("mlp", 1), Scale("mlp", 2)
    assert with_change([half, other], off) == (other, off)


def test_a_picked_head_is_switched_off_and_the_replies_stand_side_by_side(bench, tiny_lab) -> None:
    shown, before = panel(bench), bench.state.current
    bench.state.layer, bench.state.head = 3, 1
    shown.changes.what.value, shown.changes.how.value = "head", 0.0
    shown.changes.again.click()
    after = bench.wait()
    expected = tiny_lab.record(after.recording.token_ids.tolist(), edits=scaling.head(3, 1))
    torch.testing.assert_close(after.recording.attention.pattern(4), expected.attention.pattern(4))
    assert bench.state.asked_changes == (Scale("head", 3, 1),)
    assert bench.state.baseline is before, "the run before is the one to compare with"
    assert "without the changes" in shown.changes.outcome.value
    assert before.answer.strip() in shown.changes.outcome.value
    assert shown.changes.fold.description == "▸ 1 change in force"


def test_the_reply_without_changes_is_asked_for_if_there_is_none(tiny_lab) -> None:
    bench = Workbench(tiny_lab, question=QUESTION, thinking=False)
    bench.change(Scale("mlp", 0))
    chat = bench.run()
    bench.wait()
    expected = tiny_lab.chat(QUESTION, thinking=False)
    assert bench.state.baseline.token_ids == expected.token_ids != chat.token_ids


def test_a_removed_change_is_out_of_force_in_the_next_run(bench) -> None:
    before = bench.state.current
    bench.change(Scale("layer", 2), Route(3, 1))
    bench.run()
    shown = panel(bench).changes
    assert [line.children[0].value for line in shown.listed.children] == [
        "layer 2 off",
        "expert 3.1 off",
    ]
    shown.listed.children[0].children[1].click()
    assert bench.state.changes == (Route(3, 1),)
    shown.clear.click()
    assert bench.run().token_ids == before.token_ids
    assert bench.state.baseline is None and shown.outcome.value == ""


def test_the_edits_are_those_of_the_changes_in_force(bench, tiny_lab) -> None:
    bench.change(Route(3, 1), Scale("head", 2, 0, by=2.0))
    ids = bench.state.current.prompt_ids
    plain = [rerouting.off(1, layers=3), scaling.head(2, 0, by=2.0)]
    assert torch.equal(
        tiny_lab.record(ids, edits=bench.edits).logits, tiny_lab.record(ids, edits=plain).logits
    )
    bench.state.changes = ()
    assert bench.edits == []


def test_an_impossible_change_is_refused_in_place(bench) -> None:
    with pytest.raises(ValueError, match="layer 99 does not exist"):
        bench.change(Scale("mlp", 99))
    assert bench.state.changes == ()
    assert "layer 99 does not exist" in panel(bench).changes.alert.value
    bench.change(Scale("mlp", 1))
    assert panel(bench).changes.alert.value == ""


def test_only_changes_can_be_in_force(bench) -> None:
    with pytest.raises(traitlets.TraitError, match="is no change"):
        bench.state.changes = ("head 3.1",)


def unfolded(card: ChangesCard | None) -> ChangesCard:
    """The card with its menus in view; folded, it follows no picks."""
    assert card is not None
    card.fold.value = True
    return card


def test_a_token_is_hidden_or_read_as_another_one(bench, tiny_lab) -> None:
    card = unfolded(panel(bench).changes)
    bench.state.token = 4
    card.what.value = "token"
    card.put(ask=False)
    assert bench.state.changes == (Hide(4, 5),)
    card.how.value = "read as …"
    card.token.value = "two tokens"
    card.put(ask=False)
    assert "type the text of one token" in card.alert.value
    card.token.value = "5"
    card.put(ask=True)
    bench.wait()
    (five,) = tiny_lab.token_ids("5")
    assert bench.state.asked_changes == (Hide(4, 5), ReadAs(4, five, "5"))
    assert bench.state.error == ""


def test_the_thinking_step_of_the_picked_token_is_offered(tiny_lab) -> None:
    bench = Workbench(tiny_lab, question="3+2*7-1=?")
    card = unfolded(panel(bench).changes)
    chat = bench.wait()
    bench.state.token = chat.spans["thinking"][0] + 1
    card.what.value = "step"
    card.put(ask=False)
    (hide,) = bench.state.changes
    assert hide.first <= bench.state.token < hide.end <= chat.spans["thinking"][1] + 1


def test_the_card_offers_what_is_picked_and_keeps_the_kind(bench) -> None:
    card = unfolded(panel(bench).changes)
    bench.state.layer, bench.state.head = 4, 2
    assert card.what.options[0] == ("head 4.2", "head")
    card.what.value = "mlp"
    bench.state.layer = 5
    assert ("MLP of layer 5", "mlp") in card.what.options and card.what.value == "mlp"
    bench.state.expert = 3
    assert card.what.options[0] == (f"expert {bench.state.routing_layer}.3", "expert")
    assert card.what.value == "mlp"


def test_a_folded_card_offers_what_is_picked_when_it_is_unfolded(bench) -> None:
    card = panel(bench).changes
    before = card.what.options
    bench.state.layer, bench.state.head = 4, 2
    assert card.what.options == before != (("head 4.2", "head"),)
    unfolded(card)
    assert card.what.options[0] == ("head 4.2", "head")


def test_an_expert_switched_off_in_the_routing_view_is_in_the_list(bench) -> None:
    view = routing(bench)
    bench.state.expert = 2
    view.switch.click()
    bench.wait()
    assert bench.state.asked_changes == (Route(bench.state.routing_layer, 2),)
    assert "expert" in panel(bench).changes.listed.children[0].children[0].value


def test_a_change_tried_in_the_why_view_can_be_kept(bench) -> None:
    view = why(bench)
    bench.wait()
    bench.state.part = ("head", 3, 1)
    view.part.take_away.click()
    bench.wait()
    view.part.keep.click()
    assert bench.state.changes == (Scale("head", 3, 1),)


def test_what_runs_the_unchanged_model_says_so_with_changes_in_force(tiny_lab) -> None:
    bench = Workbench(tiny_lab, question="3+2*7-1=?")
    panel(bench)
    bench.change(Scale("head", 0, 0))
    bench.run()
    thinking(bench)
    bench.wait()
    assert "remove the changes in force" in bench.state.answer_error
    assert bench.state.answers == {}
    why(bench)
    bench.wait()
    assert bench.state.effects is None
    bench.why.measure()
    assert "head 0.0 off" in bench.state.problem


def test_a_recording_alone_offers_no_changes(bench) -> None:
    alone = Workbench(bench.state.recording)
    assert panel(alone).changes is None


def test_a_branch_of_a_run_keeps_its_changes_when_one_goes_back_and_forth(bench) -> None:
    bench.change(Scale("mlp", 5, by=0.5))
    chat = bench.run()
    bench.state.changes = ()  # For the next question.
    at = chat.spans["answer"][0]
    bench.branches.write(at, [*chat.prompt_ids, *chat.token_ids][at])
    bench.wait()
    assert bench.state.current.token_ids == chat.token_ids
    assert bench.state.asked_changes == (Scale("mlp", 5, by=0.5),)
    bench.state.branch = 0
    assert bench.state.asked_changes == (Scale("mlp", 5, by=0.5),)
    assert bench.state.baseline is not None


def test_a_branch_is_not_taken_for_the_reply_without_changes(bench) -> None:
    plain = bench.state.current
    at = plain.spans["answer"][0]
    bench.branches.write(at, 60)
    bench.wait()
    assert bench.state.current.chosen
    bench.change(Scale("mlp", 5, by=0.5))
    bench.run()
    bench.wait()
    assert bench.state.baseline is plain


def test_a_choice_stays_while_the_question_is_asked_again(bench) -> None:
    card = unfolded(panel(bench).changes)
    bench.state.token = 5
    card.what.value, card.where.value = "mlp", "at the token"
    card.again.click()
    bench.wait()
    assert (card.what.value, card.where.value) == ("mlp", "at the token")
    card.what.value = "token"
    bench.run()
    assert card.what.value == "token"


def test_a_change_at_a_token_needs_a_token(bench) -> None:
    card = unfolded(panel(bench).changes)
    bench.state.token = -1
    card.what.value, card.where.value = "mlp", "at the token"
    card.put(ask=False)
    assert "no token is picked" in card.alert.value and bench.state.changes == ()


def test_the_card_jumps_to_the_token_that_the_changes_moved_most(tiny_lab) -> None:
    bench = Workbench(tiny_lab, question="3+4=?", thinking=False)
    card = unfolded(panel(bench).changes)
    bench.wait()
    bench.interventions.jump()
    assert "there is no run without the changes yet" in bench.state.change_error
    bench.change(Scale("mlp", 4))
    bench.run()
    bench.wait()
    bench.state.token = -1
    card.most.click()
    assert bench.state.token >= 0 and bench.state.changed_most in card.changed.value
    assert f"largest change: token {bench.state.token} “" in bench.state.changed_most
