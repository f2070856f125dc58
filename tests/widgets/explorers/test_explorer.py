"""The explorer without a kernel: tests call handlers and read widget values."""

import gc
import threading
import time
import weakref
from dataclasses import replace

import pytest
import torch
from traitlets import TraitError

from qwen3lab import Sampling
from qwen3lab.config.catalog import PUBLISHED
from qwen3lab.generation.defaults import ReplyDefaults
from qwen3lab.generation.suggested import suggest
from qwen3lab.widgets import Explorer
from tests.fake_lab import ANSWER, DENSE, PROMPT, THOUGHTS, FakeLab
from tests.widgets.workbench.benches import attention, panel, routing, text


@pytest.fixture
def explorer() -> Explorer:
    explorer = Explorer(FakeLab(), question="Hi")
    explorer.run()
    return explorer


def test_displaying_an_explorer_asks_its_first_question() -> None:
    lab = FakeLab()
    explorer = Explorer(lab, question="How many?")
    panel(explorer)
    chat = explorer.wait()
    assert chat is not None and chat.stop == "natural"
    assert lab.asked[0][0] == "How many?"
    assert attention(explorer).map.heatmap is not None


def test_the_reply_shows_the_text_and_the_part_of_every_token(explorer: Explorer) -> None:
    view = panel(explorer)
    chips = view.transcript.reply["chips"]
    assert [chip[0] for chip in chips] == [*THOUGHTS, *ANSWER]
    assert [chip[2] for chip in chips] == ["thinking"] * 4 + ["answer"] * 4
    assert view.transcript.progress["thinking_tokens"] == 3
    assert view.transcript.progress["note"] == "Finished: the model ended its reply."


def test_picking_layer_or_head_draws_its_attention_without_running_the_model(
    explorer: Explorer,
) -> None:
    view, recording = attention(explorer), explorer.state.chat.recording
    view.pickers.layer.value = 3
    view.pickers.head.value = 1
    assert view.map.heatmap.title == "Attention of layer 3, head 1"
    lower = torch.tril(torch.ones(15, 15)).bool()
    expected = recording.attention[3, 1]
    torch.testing.assert_close(view.map.heatmap.values[lower], expected[lower])
    assert view.map.heatmap.values[~lower].isnan().all()
    assert len(explorer.lab.asked) == 1


def test_picking_a_routing_layer_draws_its_router_weights(explorer: Explorer) -> None:
    view, found = routing(explorer), explorer.state.chat.recording.routing
    assert [option[1] for option in view.pickers.routing_layer.options] == [1, 3]
    view.pickers.routing_layer.value = 1
    table = view.routing.heatmap.values
    assert view.routing.heatmap.title == "Expert routing in layer 1"
    for token in range(15):
        for expert, weight in zip(found.experts[0, token], found.weights[0, token], strict=True):
            assert table[expert, token] == weight
    assert table.isfinite().sum() == 15 * 2


def test_the_entropy_plot_shows_the_run(explorer: Explorer) -> None:
    view = text(explorer)
    assert view.plot is None, "the library of the plot is loaded when it is asked for"
    view.curve.value = True
    surprisal, entropy, _ = view.plot.shown.data
    assert list(entropy.x) == list(range(len(PROMPT), len(PROMPT) + 8))
    assert list(entropy.y) == [0.25 * i for i in range(8)]
    assert list(surprisal.y) == [0.5] * 8


def test_a_dense_model_has_no_routing_tab() -> None:
    explorer = Explorer(FakeLab(DENSE), question="Hi")
    explorer.run()
    assert [*panel(explorer).views] == ["text", "attention", "thinking", "why", "compare", "raw"]
    titles = ("Text", "Attention", "Thinking", "Why", "Compare", "Raw")
    assert panel(explorer).tabs.titles == titles
    assert attention(explorer).map.heatmap is not None
    assert "weight of the picked expert" not in dict(text(explorer).quantity.options)


def test_stop_keeps_the_tokens_generated_so_far() -> None:
    lab = FakeLab(pause_at=2)
    explorer = Explorer(lab, question="Hi")
    view = panel(explorer)
    assert lab.paused.wait(timeout=20)
    assert not view.controls.stop.disabled
    view.controls.stop.click()
    assert explorer.state.status == "stopping"
    lab.go_on.set()
    chat = explorer.wait()
    assert chat.stop == "interrupted"
    assert [chip[0] for chip in view.transcript.reply["chips"]] == THOUGHTS[:2]
    assert "Stopped by you" in view.transcript.progress["note"]
    assert attention(explorer).map.heatmap.values.shape == (9, 9)
    assert view.controls.stop.disabled and not view.controls.run.disabled


def test_stop_after_the_end_of_a_run_changes_nothing(explorer: Explorer) -> None:
    view = panel(explorer)
    explorer.stop()
    assert explorer.state.status == "idle"
    assert not view.controls.run.disabled


def test_a_run_stopped_before_its_first_token_still_draws_the_prompt() -> None:
    lab = FakeLab(pause_at=0)
    explorer = Explorer(lab, question="Hi")
    view = panel(explorer)
    assert lab.paused.wait(timeout=20)
    explorer.stop()
    lab.go_on.set()
    assert explorer.wait().token_ids == []
    assert attention(explorer).map.heatmap.values.shape == (7, 7)
    assert "Stopped by you" in view.transcript.progress["note"]
    assert explorer.state.error == ""


def test_tokens_are_shown_during_generation() -> None:
    lab = FakeLab(pause_at=3)
    explorer = Explorer(lab, question="Hi")
    view = panel(explorer)
    assert lab.paused.wait(timeout=20)
    assert view.transcript.reply["chips"][0][0] == THOUGHTS[0]
    assert view.transcript.progress["is_running"]
    lab.go_on.set()
    explorer.wait()


def test_an_error_of_the_run_is_shown_escaped_and_raised_by_run() -> None:
    lab = FakeLab()
    lab.error = ValueError('the prompt is <script>"too long"</script>')
    explorer = Explorer(lab, question="Hi")
    with pytest.raises(ValueError, match="too long"):
        explorer.run()
    view = panel(explorer)
    assert 'role="alert"' in view.alert.value
    assert "&lt;script&gt;&quot;too long&quot;" in view.alert.value
    assert explorer.state.status == "idle"


def test_a_failed_run_keeps_the_plots_of_the_run_before(explorer: Explorer) -> None:
    view, before = panel(explorer), explorer.state.chat
    explorer.lab.error = ValueError("no room")
    view.controls.run.click()
    with pytest.raises(ValueError, match="no room"):
        explorer.wait()
    assert explorer.state.chat is before
    assert attention(explorer).map.heatmap is not None
    assert view.transcript.progress["note"] == ""
    view.transcript.selected = 2  # the failed run has no token to pick
    assert explorer.state.token == -1


def test_an_unexpected_error_is_shown_with_its_type() -> None:
    lab = FakeLab()
    lab.error = RuntimeError("out of memory")
    explorer = Explorer(lab, question="Hi")
    with pytest.raises(RuntimeError):
        explorer.run()
    assert explorer.state.error == "RuntimeError: out of memory"


def test_an_empty_question_is_refused_and_the_last_run_stays_panel(explorer: Explorer) -> None:
    view = panel(explorer)
    view.controls.question.value = "  "
    view.controls.run.click()
    assert "the question is empty" in view.alert.value
    assert len(explorer.lab.asked) == 1
    assert len(view.transcript.reply["chips"]) == 8


def test_a_layer_that_does_not_exist_shows_an_error_until_the_next_pick(explorer: Explorer) -> None:
    view = panel(explorer)
    with pytest.raises(TraitError, match="layer 9 does not exist: the model has layers 0 to 3"):
        explorer.state.layer = 9
    assert "layer 9 does not exist: the model has layers 0 to 3" in view.stage_alert.value
    assert explorer.state.layer == 2
    attention(explorer).pickers.layer.value = 1
    assert view.stage_alert.value == ""
    assert attention(explorer).map.heatmap.title == "Attention of layer 1, head 0"


def test_a_routing_layer_without_experts_shows_an_error(explorer: Explorer) -> None:
    view = panel(explorer)
    says = "layer 0 has no experts: the layers with experts are 1, 3"
    with pytest.raises(TraitError, match=says):
        explorer.state.routing_layer = 0
    assert says in view.stage_alert.value


def test_the_settings_are_passed_to_the_model() -> None:
    lab = FakeLab()
    explorer = Explorer(lab, question="Hi")
    view = panel(explorer)
    explorer.wait()
    controls = view.controls
    controls.question.value = "Again"
    controls.budget.value = 16
    controls.greedy.value = False
    controls.temperature.value = 0.9
    controls.seed.value = 5
    controls.run.click()
    explorer.wait()
    question, options = lab.asked[1]
    assert question == "Again"
    assert (options["thinking"], options["budget"], options["seed"]) == (True, 16, 5)
    assert options["sampling"].temperature == 0.9
    assert options["record"] == ("hook_unembed",), "for the probabilities of alternatives"
    controls.thinking.value = False
    controls.greedy.value = True
    controls.run.click()
    explorer.wait()
    assert lab.asked[2][1]["thinking"] is False
    assert lab.asked[2][1]["budget"] == 16, "a budget holds for a model that thinks unasked, too"
    assert not controls.budget.disabled
    assert lab.asked[2][1]["sampling"].temperature == 0


def test_the_last_value_of_the_budget_slider_is_no_limit(explorer: Explorer) -> None:
    view = panel(explorer)
    view.controls.budget.value = 8
    assert explorer.state.budget == 8
    view.controls.budget.index = len(view.controls.budget.options) - 1
    assert explorer.state.budget is None


def test_a_budget_that_is_not_on_the_slider_is_added_to_it() -> None:
    explorer = Explorer(FakeLab(), question="Hi", budget=7)
    view = panel(explorer)
    assert view.controls.budget.value == 7 == explorer.state.budget
    explorer.wait()
    assert explorer.lab.asked[0][1]["budget"] == 7


def test_an_example_is_copied_into_the_question_box(explorer: Explorer) -> None:
    view = panel(explorer)
    for _ in range(2):
        view.controls.question.value = "something else"
        view.controls.example.value = explorer.examples[1]
        assert view.controls.question.value == explorer.state.question == explorer.examples[1]


def test_picking_a_token_in_one_view_marks_it_in_all_views(explorer: Explorer) -> None:
    view = panel(explorer)
    text(explorer).curve.value = True
    view.transcript.selected = 2
    token = len(PROMPT) + 2
    assert token == 9
    assert explorer.state.token == token == text(explorer).text.picked
    assert [s.x0 for s in text(explorer).plot.shown.layout.shapes][-1] == token
    assert attention(explorer).map.marked == [token, -1]
    assert routing(explorer).routing.marked == [-1, token]
    assert "Token 9 “·three”" in view.notes.value
    view.transcript.selected = 1
    assert "&lt;b&gt;two&lt;/b&gt;" in view.notes.value
    routing(explorer).routing.selected = [4, 3]
    assert (explorer.state.token, explorer.state.expert) == (3, 4)
    assert view.transcript.marked == -1  # a token of the prompt
    attention(explorer).map.selected = [8, 1]
    assert explorer.state.token == 8
    text(explorer).text.set_state({"picked": 5})
    assert explorer.state.token == 5
    text(explorer).plot._handle_custom_msg({"kind": "click", "x": 10}, [])
    assert explorer.state.token == 10


def test_displaying_an_explorer_again_closes_its_old_widgets(explorer: Explorer) -> None:
    first, map_before = panel(explorer), attention(explorer).map
    explorer._ipython_display_()
    second = explorer.view
    assert second is not first and first.root.comm is None
    assert map_before.comm is None
    explorer.state.layer = 0
    assert attention(explorer).map.heatmap.title == "Attention of layer 0, head 0"
    assert map_before.heatmap.title == "Attention of layer 2, head 0"


def test_a_new_run_discards_the_run_before() -> None:
    lab = FakeLab(pause_at=3)
    explorer = Explorer(lab, question="first")
    explorer.start()
    assert lab.paused.wait(timeout=20)
    explorer.state.question = "second"
    explorer.start()
    chats, lengths = [], []
    explorer.state.observe(lambda change: chats.append(change["new"]), "chat")
    explorer.state.observe(lambda change: lengths.append(len(change["new"])), "chips")
    lab.go_on.set()
    assert explorer.wait().stop == "natural"
    assert explorer.state.asked == "second"
    assert [chat.stop for chat in chats] == ["natural"]
    # Three tokens of the first run would have made this 3 or more.
    assert lengths[0] == 1 and lengths[-1] == 8


def test_an_interrupt_while_waiting_stops_the_run_and_keeps_its_tokens(monkeypatch) -> None:
    lab = FakeLab(pause_at=2)
    explorer = Explorer(lab, question="Hi")
    explorer.start()
    assert lab.paused.wait(timeout=20)
    future, result = explorer.worker.future, explorer.worker.future.result
    calls = iter([KeyboardInterrupt()])

    def interrupted_once():
        for error in calls:
            threading.Thread(target=lambda: (time.sleep(0.05), lab.go_on.set())).start()
            raise error
        return result()

    monkeypatch.setattr(future, "result", interrupted_once)
    assert explorer.wait().stop == "interrupted"


def test_the_same_cell_can_be_picked_again_and_stays_marked(explorer: Explorer) -> None:
    view, maps, picked = panel(explorer), routing(explorer), []
    explorer.state.observe(lambda change: picked.append(change["new"]), "token")
    for _ in range(2):
        maps.routing.set_state({"selected": [4, 3]})
        assert maps.routing.selected == [-1, -1] and maps.routing.marked == [4, 3]
        view.transcript.set_state({"selected": 2})
        assert view.transcript.selected == -1 and view.transcript.marked == 2
    assert picked == [3, len(PROMPT) + 2] * 2


def test_moving_a_slider_keeps_the_error_of_the_run_and_clears_the_error_of_a_plot(
    explorer: Explorer,
) -> None:
    view = panel(explorer)
    explorer.lab.error = ValueError("no room")
    with pytest.raises(ValueError, match="no room"):
        explorer.run()
    with pytest.raises(TraitError):
        explorer.state.layer = 9
    explorer.state.drawing_error = "no picture"
    assert "no room" in view.alert.value
    assert "no picture\nlayer 9 does not exist" in view.stage_alert.value
    attention(explorer).pickers.layer.value = 1
    assert "no room" in view.alert.value and view.stage_alert.value == ""
    routing(explorer).pickers.routing_layer.value = 1
    assert "no room" in view.alert.value
    explorer.lab.error = None
    explorer.run()
    assert view.alert.value == ""


def test_run_raises_and_shows_why_a_question_is_refused(explorer: Explorer) -> None:
    view = panel(explorer)
    explorer.state.question = " "
    with pytest.raises(ValueError, match="the question is empty"):
        explorer.run()
    assert "the question is empty" in view.alert.value


def test_a_closed_explorer_keeps_no_reference_to_its_lab() -> None:
    lab = FakeLab()
    explorer, gone = Explorer(lab, question="Hi"), weakref.ref(lab)
    for view in (text, attention, routing):
        view(explorer)
    explorer.wait()
    explorer.close()
    del explorer, lab
    gc.collect()
    assert gone() is None


@pytest.fixture
def published() -> FakeLab:
    """A lab whose suggestions are those of Qwen3-0.6B on a CPU."""
    lab, fields = FakeLab(), {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "do_sample": True}
    lab.suggested = suggest(
        PUBLISHED["Qwen/Qwen3-0.6B"],
        ReplyDefaults.from_fields(fields),
        name="Qwen/Qwen3-0.6B",
        edition=None,
        device="cpu",
    )
    return lab


def test_a_published_model_samples_as_published_for_each_mode(published: FakeLab) -> None:
    explorer = Explorer(published)
    view = panel(explorer)
    explorer.wait()
    for mode in (True, False):
        view.controls.thinking.value = mode
        explorer.run()
        options = published.asked[-1][1]
        assert options["thinking"] is mode
        assert options["sampling"] == Sampling.published(thinking=mode)
        assert view.controls.temperature.value == options["sampling"].temperature


def test_a_chosen_temperature_is_kept_when_the_mode_changes(published: FakeLab) -> None:
    explorer = Explorer(published)
    view = panel(explorer)
    explorer.wait()
    view.controls.temperature.value = 1.1
    view.controls.thinking.value = False
    explorer.run()
    expected = replace(Sampling.published(thinking=False), temperature=1.1)
    assert published.asked[-1][1]["sampling"] == expected


def test_budget_and_length_are_those_suggested_unless_given(published: FakeLab) -> None:
    explorer = Explorer(published)
    view = panel(explorer)
    explorer.wait()
    suggested = published.suggested
    assert published.asked[0][1]["budget"] == view.controls.budget.value == suggested.budget
    assert published.asked[0][1]["max_new_tokens"] == suggested.recorded_tokens
    offered = [value for _, value in view.controls.budget.options]
    assert max(offered) == suggested.recorded_tokens
    given = Explorer(published, budget=None, max_new_tokens=5)
    given.run()
    options = published.asked[-1][1]
    assert (options["budget"], options["max_new_tokens"]) == (None, 5)
