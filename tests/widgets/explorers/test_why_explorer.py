"""The why explorer without a kernel: tests set the state and read widget values."""

from dataclasses import replace

import pytest
import torch

import qwen3lab
from qwen3lab import Sampling
from qwen3lab.attribution.direct import Part
from qwen3lab.widgets import WhyExplorer, Workbench
from qwen3lab.widgets.explorers import why_compute
from qwen3lab.widgets.explorers.chat_compute import token_axis
from qwen3lab.widgets.explorers.why_compute import Effects, lens_heatmap, needed, part_at
from qwen3lab.widgets.explorers.why_edits import patched, removal
from qwen3lab.widgets.explorers.why_state import EFFECTS, EXPERTS, HEADS, MLPS, OTHER_QUESTION
from qwen3lab.widgets.workbench.parts.explanation import first_of_answer
from tests.widgets.workbench.benches import attention, panel, routing, why

QUESTION, OTHER = "lamp 2, book 7, cat 1. book?", "lamp 2, book 5, cat 1. book?"


@pytest.fixture
def explorer(tiny_lab) -> WhyExplorer:
    explorer = WhyExplorer(tiny_lab, question=QUESTION, thinking=False)
    explorer.run()
    return explorer


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


def test_the_lens_map_has_the_probability_after_each_layer(explorer) -> None:
    found = explorer.state.explained
    expected = found.lens.probability(found.token_id)
    assert torch.allclose(found.probability, expected)
    assert torch.equal(lens_heatmap(found).values, found.probability)
    ends = found.lens.rank(found.token_id)[:, -1].tolist()
    assert (
        found.leads == [layer for layer, rank in enumerate(ends) if rank == 0] and 5 in found.leads
    )


def test_a_lens_of_a_large_vocabulary_shows_the_last_tokens_and_marks_the_token(
    explorer, monkeypatch
) -> None:
    monkeypatch.setattr(why_compute, "MAX_KEPT_VOCABULARY", 10)
    monkeypatch.setattr(why_compute, "MAX_TOKENS_OF_LARGE_VOCABULARY", 8)
    view, state = why(explorer), explorer.state
    state.token = 20
    explorer.wait()
    columns = view.lens.heatmap.columns
    assert (columns.first, len(columns.labels)) == (12, 8)
    assert columns.labels[-1] == state.current.recording.tokens[19]
    assert view.lens.marked == [state.layer, 19]  # The canvas counts from the first of all.
    view.pick_lens(1, 14)
    explorer.wait()
    assert state.token == 15 == state.explained.position


def test_the_parts_of_the_conversation_end_with_the_tokens_of_the_map(explorer) -> None:
    columns = lens_heatmap(explorer.state.explained).columns
    assert [(span.name, span.start, span.end) for span in columns.spans] == [("prompt", 0, 26)]
    part = token_axis(explorer.state.current.recording, range(25, 27))
    assert [(span.name, span.start, span.end) for span in part.spans] == [
        ("prompt", 0, 1),
        ("answer", 1, 2),
    ]
    assert part.first == 25


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
        edits = removal(part_at(shown_map, layer, column)).intervention(lab)
    expected = difference(lab, ids, found, edits=edits) - base
    assert float(shown_map.values[layer, column]) == pytest.approx(expected, abs=2e-3)


def other_stream(explorer: WhyExplorer) -> Effects:
    """The map of the stream of another question."""
    explorer.state.effect, explorer.state.other_question = OTHER_QUESTION, OTHER
    explorer.measure()
    explorer.wait()
    assert explorer.state.problem == ""
    return explorer.state.effects


def test_another_question_changes_nothing_before_it_differs_and_all_at_the_end(explorer) -> None:
    found = other_stream(explorer)
    tokens = explorer.state.current.recording.tokens
    differs = tokens.index("7")
    assert float(found.values[:, :differs].abs().max()) < 1e-4
    assert float(found.values[-1, -1]) == pytest.approx(-1.0, abs=1e-3)
    assert found.values.shape == (explorer.lab.config.n_layers, found.position)


def test_a_patched_token_gives_the_reply_with_the_stream_of_the_other_question(explorer) -> None:
    other_stream(explorer)
    view, state, lab = why(explorer), explorer.state, explorer.lab
    layer, position = lab.config.n_layers - 1, state.token - 1
    view.pick_effect(layer, position)
    assert state.part == ("layer", layer, position)
    assert view.effects.marked == [layer, position]
    assert view.part.take_away.layout.display == "none" != view.part.patch.layout.display
    explorer.patch()
    explorer.wait()
    assert state.problem == ""
    # The last layer's stream decides the next token alone.
    assert state.edited.answer[0] == lab.chat(OTHER, thinking=False).answer[0] == "5"
    assert f"layer {layer}, token {position} from “{OTHER}”" in state.edited_name


def test_a_patch_changes_one_layer_at_one_token_only(explorer) -> None:
    lab, chat = explorer.lab, explorer.state.current
    hook, position = "blocks.1.hook_resid_post", 9
    edits = patched(lab, chat, ("layer", 1, position), OTHER).intervention(lab)
    own, found = (
        lab.record(chat.prompt_ids, capture=hook, edits=each)[hook] for each in (None, edits)
    )
    theirs = lab.record([{"role": "user", "content": OTHER}], thinking=False, capture=hook)[hook]
    assert torch.allclose(found[position], theirs[position], atol=1e-3)
    assert (found[position] - own[position]).abs().max() > 0.1
    found[position] = own[position]
    assert torch.allclose(found, own, atol=1e-3)


@pytest.mark.parametrize("question", ["", "lamp 2, book 5, cat 1, key 3. book?"])
def test_a_question_that_does_not_fit_is_refused_in_place(explorer, question) -> None:
    view = why(explorer)
    explorer.state.effect, explorer.state.other_question = OTHER_QUESTION, question
    explorer.measure()
    explorer.wait()
    assert "the other question" in view.problem.value
    assert explorer.state.effects is None and not explorer.state.measuring_effects


def test_clicks_pick_token_layer_and_part(explorer) -> None:
    view, state = why(explorer), explorer.state
    view.pick_lens(2, state.token - 2)
    explorer.wait()
    assert state.layer == 2
    assert state.explained.position == state.token
    assert view.lens.marked == [2, state.token - 1]
    view.pick_effect(1, 3)
    assert state.part == ("head", 1, 3)
    assert view.effects.marked == [1, 3] and "head 1.3" in view.part.picked.value


@pytest.mark.parametrize(
    ("bar", "part"),
    [("head 2.1", ("head", 2, 1)), ("expert 5.8", ("expert", 5, 8)), ("mlp 0", ("mlp", 0, -1))],
)
def test_a_click_on_a_bar_picks_its_part(explorer, bar, part) -> None:
    view, state = why(explorer), explorer.state
    kind, layer, number = part
    parts = (Part(kind, layer, None if number < 0 else number, 1.0),)
    state.explained = replace(
        state.explained, parts=replace(state.explained.parts, parts=parts, total=1.0)
    )
    view.parts_plot._handle_custom_msg({"kind": "click", "x": bar}, [])
    assert state.part == part and state.layer == layer
    assert len(view.parts_plot.shown.layout.shapes) == 1  # marks the bar


@pytest.mark.parametrize("bar", ["embedding", "total", "3 other parts", "head 99.0"])
def test_a_bar_that_is_no_part_of_a_layer_picks_nothing(explorer, bar) -> None:
    view = why(explorer)
    view.parts_plot._handle_custom_msg({"kind": "click", "x": bar}, [])
    assert explorer.state.part == ()


def test_a_part_is_marked_in_the_map_of_its_own_kind_only(explorer) -> None:
    view, state = why(explorer), explorer.state
    state.part = ("expert", 2, 5)
    assert view.effects.marked == [-1, -1]
    state.part = ("head", 2, 1)
    assert view.effects.marked == [2, 1]


@pytest.mark.parametrize(
    ("part", "cell", "token"),
    [(("head", 1, 3), (11, 4), 12), (("expert", 2, 5), (7, 13), 14)],
)
def test_a_click_inside_of_the_part_explains_the_next_token(explorer, part, cell, token) -> None:
    view, state = why(explorer), explorer.state
    state.part = part
    view.part.pick_inside(*cell)
    explorer.wait()
    assert state.token == token == state.explained.position
    assert state.part == (part if part[0] == "head" else ("expert", 2, 7))


def test_the_last_token_of_all_explains_itself(explorer) -> None:
    view, state = why(explorer), explorer.state
    state.part, last = ("head", 1, 3), len(state.current.recording) - 1
    view.part.pick_inside(last, 0)
    explorer.wait()
    assert state.token == last and state.problem == ""


def test_a_head_opens_the_attention_view_with_the_same_reply(explorer) -> None:
    view, state = why(explorer), explorer.state
    chat, token = state.current, state.token
    assert view.part.open.layout.display == "none"
    state.part = ("head", 4, 2)
    assert view.part.open.description == "Attention view"
    view.part.open.click()
    assert state.tab == "attention" and state.problem == ""
    assert panel(explorer).tabs.selected_index == 1
    assert (state.layer, state.head, state.token) == (4, 2, token)
    assert attention(explorer).map.heatmap.title == "Attention of layer 4, head 2"
    assert state.current is chat and attention(explorer).map.marked == [token, -1]


def test_an_expert_opens_the_routing_view_with_the_same_reply(explorer) -> None:
    view, state = why(explorer), explorer.state
    chat = state.current
    state.part = ("expert", 3, 7)
    view.part.open.click()
    assert state.tab == "routing" and state.current is chat
    assert (state.routing_layer, state.expert) == (3, 7)
    assert "Expert 7 of layer 3" in routing(explorer).routed.value
    assert "no corpus" in routing(explorer).routed.value


def test_an_mlp_opens_no_explorer(explorer) -> None:
    view = why(explorer)
    explorer.state.part = ("mlp", 3, -1)
    assert view.part.open.layout.display == "none"
    explorer.open_part()
    assert "neither a head nor an expert" in view.problem.value


def test_a_reply_that_is_given_is_explained_without_asking(tiny_lab, monkeypatch) -> None:
    chat = tiny_lab.chat(QUESTION, thinking=False, record=needed(tiny_lab))
    monkeypatch.setattr(tiny_lab, "chat", lambda *_, **__: pytest.fail("it was asked again"))
    explorer = WhyExplorer(tiny_lab, chat=chat)
    view = why(explorer)
    assert explorer.wait() is chat
    assert explorer.state.explained.position == first_of_answer(chat)
    assert panel(explorer).controls.question.value == QUESTION and view.lens.heatmap is not None


def test_a_reply_without_the_hooks_that_it_needs_is_run_once_more(tiny_lab, monkeypatch) -> None:
    chat = tiny_lab.chat(QUESTION, thinking=False, record=True)
    monkeypatch.setattr(tiny_lab, "chat", lambda *_, **__: pytest.fail("it was asked again"))
    bench = Workbench(tiny_lab, chat=chat)
    bench.wait()
    assert bench.state.explained is None, "the tab is not open"
    bench.state.tab = "why"
    bench.wait()
    found = bench.state.explained
    assert bench.state.problem == "" and found.position == first_of_answer(chat)
    before = [*chat.prompt_ids, *chat.token_ids][: found.position]
    assert found.parts.total == pytest.approx(difference(tiny_lab, before, found), abs=1e-3)
    assert bench.state.recording is chat.recording


def test_a_token_that_the_model_does_not_have_keeps_the_explanation(explorer) -> None:
    view, before = why(explorer), explorer.state.explained
    explorer.state.other_token = "no such <b>token</b>"
    explorer.wait()
    assert "&lt;b&gt;" in view.problem.value and "<b>" not in view.problem.value
    assert explorer.state.explained is before
    explorer.state.other_token = "4"
    explorer.wait()
    assert view.problem.value == "" and explorer.state.explained.other == "4"


def test_a_part_that_is_taken_away_gives_the_reply_without_it(explorer) -> None:
    view = why(explorer)
    view.pick_effect(0, 2)
    explorer.take_away()
    explorer.wait()
    expected = explorer.lab.chat(
        QUESTION,
        thinking=False,
        sampling=Sampling.greedy(),
        edits=removal(("head", 0, 2)).intervention(explorer.lab),
        max_new_tokens=explorer.max_new_tokens,
    )
    assert explorer.state.edited.token_ids == expected.token_ids
    assert "without head 0.2" in view.part.replies.value


def test_steering_replaces_the_written_token_by_the_other_one(explorer) -> None:
    state, lab = explorer.state, explorer.lab
    state.other_token, state.layer, state.strength = "4", lab.config.n_layers - 1, 2.0
    explorer.wait()
    explorer.steer()
    explorer.wait()
    assert state.current.answer == "7" and state.edited.answer[0] == "4"
    assert "steered towards “4” at layer 5, strength 2" in state.edited_name
    state.strength = -2.0
    explorer.steer()
    explorer.wait()
    assert state.edited.answer[0] == "7" and "steered towards “7”" in state.edited_name


def test_an_mlp_is_taken_away_at_the_clicked_token_or_at_all(explorer) -> None:
    lab, ids = explorer.lab, explorer.state.current.prompt_ids
    hook = "blocks.2.hook_mlp_out"
    own = lab.record(ids, capture=hook)[hook]
    for position, is_zero in ((4, [4]), (-1, list(range(len(ids))))):
        edits = removal(("mlp", 2, position)).intervention(lab)
        found = lab.record(ids, capture=hook, edits=edits)[hook]
        assert [at for at in range(len(ids)) if not found[at].any()] == is_zero
    assert own.any(dim=-1).all()


def test_nothing_is_changed_without_a_pick(tiny_lab) -> None:
    explorer = WhyExplorer(tiny_lab, question=QUESTION, thinking=False)
    view = why(explorer)
    explorer.wait()
    explorer.take_away()
    assert "no part is picked" in view.problem.value
    explorer.state.token = -1
    explorer.measure()
    assert "no token is explained" in view.problem.value


def test_the_first_token_of_all_has_no_explanation(explorer) -> None:
    explorer.state.token = 0
    explorer.wait()
    assert "nothing comes before the first token" in explorer.state.problem
    assert explorer.state.explained is None


def test_a_dense_model_offers_no_experts() -> None:
    dense = WhyExplorer(qwen3lab.load("tiny-dense", device="cpu"), question=QUESTION)
    view = why(dense)
    dense.wait()
    offered = [value for _, value in view.effect.options]
    assert offered == [each for each in EFFECTS if each != EXPERTS]
    assert view.measure.disabled is False and view.part.take_away.disabled


def test_a_part_is_named_by_the_map_that_was_clicked() -> None:
    found = Effects(EXPERTS, "", torch.zeros(2, 4), "expert", (), 5)
    assert part_at(found, 1, 3) == ("expert", 1, 3)
    with pytest.raises(ValueError, match="a whole layer is not taken away"):
        removal(("layer", 1, -1))
