"""The why explorer without a kernel: tests set the state and read widget values."""

import pytest
import torch

import qwen3lab
from qwen3lab import Sampling
from qwen3lab.widgets import WhyExplorer
from qwen3lab.widgets.explorers.why_compute import Effects, part_at, removal
from qwen3lab.widgets.explorers.why_explorer import first_of_answer
from qwen3lab.widgets.explorers.why_panel import WhyPanel
from qwen3lab.widgets.explorers.why_state import EFFECTS, EXPERTS, HEADS, MLPS, OTHER_QUESTION

QUESTION, OTHER = "lamp 2, book 7, cat 1. book?", "lamp 2, book 5, cat 1. book?"


@pytest.fixture(autouse=True)
def close_explorers():
    """Close all explorers after each test."""
    yield
    while WhyExplorer.shown:
        WhyExplorer.shown.popitem()[1].close()


@pytest.fixture
def explorer(tiny_lab) -> WhyExplorer:
    explorer = WhyExplorer(tiny_lab, question=QUESTION, thinking=False)
    explorer.run()
    return explorer


def shown(explorer: WhyExplorer) -> WhyPanel:
    explorer._ipython_display_()
    assert isinstance(explorer.view, WhyPanel)
    return explorer.view


def difference(lab, ids, found, **options) -> float:
    """The logit difference that is explained, in a run of its own."""
    logits = lab.record(ids, **options).logits[-1]
    return float(logits[found.token_id] - logits[found.other_id])


def test_a_run_explains_the_first_token_of_its_answer(explorer) -> None:
    chat, found = explorer.state.current, explorer.state.explained
    assert explorer.state.token == first_of_answer(chat) == found.position
    ids = [*chat.prompt_ids, *chat.token_ids]
    assert found.token_id == ids[found.position]
    before = ids[: found.position]
    expected = difference(explorer.lab, before, found)
    assert found.parts.total == pytest.approx(expected, abs=1e-3)
    probabilities = explorer.lab.record(before).logits[-1].softmax(dim=-1)
    assert float(found.lens.probability(found.token_id)[-1, -1]) == pytest.approx(
        float(probabilities[found.token_id]), abs=1e-4
    )
    others = probabilities.clone()
    others[found.token_id] = 0
    assert found.other_id == int(others.argmax())


@pytest.mark.parametrize("effect", [HEADS, EXPERTS, MLPS])
def test_the_map_of_effects_equals_a_run_without_the_part(explorer, effect) -> None:
    state, lab = explorer.state, explorer.lab
    state.effect = effect
    explorer.measure()
    explorer.wait()
    found, shown_map = state.explained, state.effects
    ids = [*state.current.prompt_ids, *state.current.token_ids][: found.position]
    base = difference(lab, ids, found)
    layer, column = lab.config.n_layers - 1, 1
    if effect == MLPS:
        column = len(ids) - 1

        def edit(value, name):
            value[:, column] = 0
            return value

        edits = {f"blocks.{layer}.hook_mlp_out": edit}
    elif effect == EXPERTS:
        column = int(lab.record(ids).routing.layer(layer).experts[-1, 0])
        out = f"blocks.{layer}.mlp.hook_expert_weights"
        chosen = lab.record(ids).routing.layer(layer).experts

        def edit(value, name):
            return value.masked_fill(chosen == column, 0.0)

        edits = {out: edit}
    else:
        edits = removal(part_at(shown_map, layer, column))
    expected = difference(lab, ids, found, edits=edits) - base
    assert float(shown_map.values[layer, column]) == pytest.approx(expected, abs=2e-3)


def test_another_question_is_0_at_first_and_1_at_the_end(explorer) -> None:
    explorer.state.effect, explorer.state.other_question = OTHER_QUESTION, OTHER
    explorer.measure()
    explorer.wait()
    found = explorer.state.effects
    assert explorer.state.error == ""
    assert float(found.values[-1, -1]) == pytest.approx(1.0, abs=1e-3)
    assert found.values.shape == (explorer.lab.config.n_layers, found.position)


@pytest.mark.parametrize("question", ["", "lamp 2, book 5, cat 1, key 3. book?"])
def test_a_question_that_does_not_fit_is_refused_in_place(explorer, question) -> None:
    view = shown(explorer)
    explorer.state.effect, explorer.state.other_question = OTHER_QUESTION, question
    explorer.measure()
    explorer.wait()
    assert "the other question" in view.alert.value
    assert explorer.state.effects is None and not explorer.state.measuring


def test_clicks_pick_token_layer_and_part(explorer) -> None:
    view, state = shown(explorer), explorer.state
    view.pick_lens(2, state.token - 2)
    explorer.wait()
    assert state.layer == 2
    assert state.explained.position == state.token
    assert view.lens.marked == [2, state.token - 1]
    view.pick_effect(1, 3)
    assert state.part == ("head", 1, 3)
    assert view.effects.marked == [1, 3] and "head 1.3" in view.picked.value


def test_a_part_that_is_taken_away_gives_the_reply_without_it(explorer) -> None:
    view = shown(explorer)
    view.pick_effect(0, 2)
    explorer.take_away()
    explorer.wait()
    expected = explorer.lab.chat(
        QUESTION,
        thinking=False,
        sampling=Sampling.greedy(),
        edits=removal(("head", 0, 2)),
        max_new_tokens=explorer.max_new_tokens,
    )
    assert explorer.state.edited.token_ids == expected.token_ids
    assert "without head 0.2" in view.replies.value


def test_steering_towards_a_token_raises_its_probability(explorer) -> None:
    state = explorer.state
    state.strength = 2.0
    state.token = first_of_answer(state.current) + 1  # It follows a token of the reply.
    explorer.wait()
    explorer.steer()
    explorer.wait()
    assert state.edited is not None and "steered towards" in state.edited_name


def test_nothing_is_changed_without_a_pick(tiny_lab) -> None:
    explorer = WhyExplorer(tiny_lab, question=QUESTION, thinking=False)
    view = shown(explorer)
    explorer.wait()
    explorer.take_away()
    assert "no part is picked" in view.alert.value
    explorer.state.token = -1
    explorer.measure()
    assert "no token is explained" in view.alert.value


def test_the_first_token_of_all_has_no_explanation(explorer) -> None:
    explorer.state.token = 0
    explorer.wait()
    assert "nothing comes before the first token" in explorer.state.error
    assert explorer.state.explained is None


def test_a_dense_model_offers_no_experts() -> None:
    dense = WhyExplorer(qwen3lab.load("tiny-dense", device="cpu"), question=QUESTION)
    view = shown(dense)
    dense.wait()
    offered = [value for _, value in view.effect.options]
    assert offered == [each for each in EFFECTS if each != EXPERTS]
    assert view.measure.disabled is False and view.take_away.disabled


def test_a_part_is_named_by_the_map_that_was_clicked() -> None:
    found = Effects(EXPERTS, "", torch.zeros(2, 4), "expert", (), 5)
    assert part_at(found, 1, 3) == ("expert", 1, 3)
    with pytest.raises(ValueError, match="a whole layer is not taken away"):
        removal(("layer", 1, -1))
