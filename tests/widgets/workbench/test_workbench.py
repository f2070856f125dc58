"""The workbench without a kernel: one run in all views, drawn when they are shown."""

import gc
import threading
import weakref

import ipywidgets as w
import pytest
import torch

import qwen3lab
from qwen3lab.recording.recording import Recording
from qwen3lab.widgets import Workbench
from qwen3lab.widgets.workbench import cells
from qwen3lab.widgets.workbench.recorded import sources
from qwen3lab.widgets.workbench.state import ENTROPY, EXPERT_WEIGHT, SURPRISAL, TABS
from tests.fake_lab import PROMPT, FakeLab
from tests.widgets.workbench.benches import (
    attention,
    compare,
    panel,
    raw,
    routing,
    text,
    thinking,
    why,
)

QUESTION = "lamp 2, book 7, cat 1. book?"


@pytest.fixture
def bench(tiny_lab) -> Workbench:
    """A displayed workbench whose first run has ended."""
    bench = Workbench(tiny_lab, question=QUESTION, thinking=False)
    panel(bench)
    bench.wait()
    return bench


def floats(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.float32)


def test_one_run_is_shown_in_every_view(bench) -> None:
    chat = bench.state.current
    for tab in TABS:
        bench.state.tab = tab
        bench.wait()
        assert (bench.state.error, bench.state.drawing_error, bench.state.problem) == ("", "", "")
    assert text(bench).text.shown[0] == 0
    assert len(text(bench).text.text["tokens"]) == len(chat.recording)
    assert attention(bench).map.heatmap.values.shape == (len(chat.recording),) * 2
    assert routing(bench).routing.heatmap.title == "Expert routing in layer 3"
    assert (
        "no thinking" in thinking(bench).budget.value or "not think" in thinking(bench).budget.value
    )
    assert why(bench).lens.heatmap is not None
    assert raw(bench).map.heatmap is not None
    assert bench.state.current is chat, "no view has asked again"


def test_a_hidden_view_is_drawn_when_it_is_opened(bench) -> None:
    shown, drawn = attention(bench), []
    shown.map.observe(lambda change: drawn.append(change["new"]["title"]), "map")
    text(bench)
    for layer in (0, 1, 2):
        bench.state.layer = layer
    assert drawn == []
    attention(bench)
    assert drawn == ["Attention of layer 2, head 0"]
    attention(bench)
    assert len(drawn) == 1, "nothing has changed"


def test_a_view_has_no_widgets_before_it_is_opened(tiny_lab) -> None:
    bench = Workbench(tiny_lab, question=QUESTION)
    shown = panel(bench)
    bench.wait()
    assert [name for name, view in shown.views.items() if view.root.children] == ["text"]


def test_heads_are_measured_when_the_tab_is_opened(bench) -> None:
    assert bench.state.scores is None
    bench.state.tab = "attention"
    bench.wait()
    assert bench.state.scores is not None


def test_early_answers_are_asked_when_the_tab_is_opened(tiny_lab) -> None:
    bench = Workbench(tiny_lab, question="3+4=?")
    bench.run()
    assert bench.state.steps and not bench.state.answers and bench.state.direct_reply is None
    bench.state.tab = "thinking"
    bench.wait()
    assert bench.state.answers and bench.state.direct_reply is not None


def test_the_text_is_shaded_by_surprisal_and_entropy_of_the_reply() -> None:
    bench = Workbench(FakeLab(), question="Hi")
    bench.run()
    view, n_prompt = text(bench), len(PROMPT)
    for quantity, expected in ((SURPRISAL, [0.5] * 8), (ENTROPY, [0.25 * i for i in range(8)])):
        view.quantity.value = quantity
        values = floats(view.text.values)
        assert values[:n_prompt].isnan().all() and values[n_prompt:].tolist() == expected
        assert view.text.shades["high"] == max(expected)
        assert view.text.shades["title"] == quantity


def test_the_text_of_a_recording_is_shaded_by_its_own_logits(tiny_lab) -> None:
    recording = tiny_lab.record("3+4=?")
    bench = Workbench(recording)
    view = text(bench)
    log = recording.logits.log_softmax(dim=-1)
    expected = -log[:-1].gather(1, recording.token_ids[1:, None])[:, 0]
    values = floats(view.text.values)
    assert values[0].isnan()
    torch.testing.assert_close(values[1:], expected)
    bench.state.quantity = ENTROPY
    entropy = torch.distributions.Categorical(logits=recording.logits[:-1]).entropy()
    torch.testing.assert_close(floats(view.text.values)[1:], entropy, atol=1e-5, rtol=1e-4)


def test_a_chosen_colour_scale_holds_for_maps_and_the_text_and_is_named_there(bench) -> None:
    shown, maps = text(bench), attention(bench)
    assert maps.map.map["scaleNote"] == "" and shown.text.shades["kind"] == "linear"
    bench.state.colours = "square root, clipped at 90%"
    assert maps.map.map["scaleNote"] == "square root, clipped at the 90% quantile"
    assert maps.heads.wall.map["scaleNote"].startswith("square root")
    bench.state.tab = "text"
    assert (shown.text.shades["kind"], shown.text.shades["low"]) == ("square root", 0.0)
    assert shown.text.shades["note"] == "square root, clipped at the 90% quantile"
    bench.state.tab, bench.state.head = "attention", 1
    assert maps.map.map["scaleNote"] == "square root, clipped at the 90% quantile"
    assert "bench.state.colours = 'square root, clipped at 90%'" in bench.code
    bench.state.colours = "automatic"
    assert maps.map.map["scaleNote"] == ""


def test_the_menu_of_colour_scales_sets_and_follows_the_state(bench) -> None:
    menu = text(bench).colours
    menu.value = "logarithm"
    assert bench.state.colours == "logarithm" and attention(bench).colours.value == "logarithm"
    bench.state.colours = "linear, clipped at 95%"  # Not on offer: the menu keeps what it shows.
    assert menu.value == "logarithm"


def test_a_chosen_colour_scale_holds_for_the_raw_map_up_to_its_largest_value(bench) -> None:
    view, state = raw(bench), bench.state
    state.hook = "blocks.1.attn.hook_pattern"
    bench.wait()
    largest = float(state.recording.attention.pattern(1).max())
    assert "colours up to the 99.5% quantile" in view.map.map["title"]
    view.colours.value = "square root"
    shown = view.map.map
    assert (shown["title"], shown["scaleNote"]) == (state.hook, "square root")
    assert shown["levels"][-1] == pytest.approx(largest)
    assert shown["levels"][127] == pytest.approx(largest / 4), "half of the colours for a quarter"
    state.colours = "automatic"
    assert "colours up to the 99.5% quantile" in view.map.map["title"]


def test_signed_values_of_the_raw_map_stay_linear_with_a_chosen_scale(bench) -> None:
    view, state = raw(bench), bench.state
    state.hook = "blocks.4.hook_attn_out"
    bench.wait()
    sizes = view.map.heatmap.values.abs()
    state.colours = "logarithm, clipped at 90%"
    shown, top = view.map.map, float(sizes[sizes > 0].quantile(0.9))
    assert shown["scaleNote"] == "linear, clipped at the 90% quantile"
    assert shown["levels"][0] == pytest.approx(-top, rel=1e-4)
    assert shown["levels"][-1] == pytest.approx(top, rel=1e-4)
    state.colours = "logarithm"
    assert view.map.map["levels"][-1] == pytest.approx(float(sizes.max()))


def test_a_chosen_scale_sends_the_raw_map_once(bench) -> None:
    view, sent = raw(bench), []
    bench.wait()
    view.map.observe(lambda change: sent.append(change["new"]["scaleNote"]), "map")
    bench.state.colours = "linear"
    assert sent == ["linear"]


def test_the_text_is_shaded_by_the_weight_of_the_picked_expert(bench) -> None:
    view, state = text(bench), bench.state
    state.quantity = EXPERT_WEIGHT
    assert view.text.shades["title"] == "pick an expert to see its tokens" and not view.text.values
    routes = state.recording.routing.layer(state.routing_layer)
    expert = int(routes.experts[0, 0])
    state.expert = expert
    expected = (routes.weights * (routes.experts == expert)).sum(dim=-1)
    torch.testing.assert_close(floats(view.text.values).nan_to_num(), expected)


def test_any_hook_is_shown_as_numbers_and_as_a_map(bench, tiny_lab) -> None:
    view, state = raw(bench), bench.state
    view.filter.value = "4 attn_out"
    assert view.hooks.options == ("blocks.4.hook_attn_out",)
    view.hooks.value = "blocks.4.hook_attn_out"
    bench.wait()
    chat = state.current
    ids = [*chat.prompt_ids, *chat.token_ids][: len(chat.recording)]
    expected = tiny_lab.record(ids, capture=state.hook)[state.hook]
    torch.testing.assert_close(view.map.heatmap.values, expected, atol=1e-4, rtol=1e-3)
    assert f"pos {len(ids)}, d_model 128 · float32" in view.about.value
    assert view.record.layout.display == "none"
    view.map.selected = [3, 7]
    assert state.token == 3
    assert f"norm {float(expected[3].norm()):.4g}" in view.numbers.value
    largest = int(expected[3].abs().argmax())
    assert f"[{largest}] {float(expected[3, largest]):.4g}" in view.numbers.value


def test_an_attention_hook_has_the_head_and_the_key_in_its_numbers(bench) -> None:
    view, state = raw(bench), bench.state
    state.hook, state.token = "blocks.1.attn.hook_pattern", 4
    bench.wait()
    pattern = state.recording.attention.pattern(1)[:, 4]
    head, key = divmod(int(pattern.argmax()), pattern.shape[1])
    assert f"largest by size: [{head}, {key}] {float(pattern.max()):.2g}"[:-1] in view.numbers.value


def test_a_hook_that_a_recording_lacks_cannot_be_recorded(tiny_lab) -> None:
    bench = Workbench(tiny_lab.record("3+4=?"))
    view = raw(bench)
    assert "hook_rot_q" in view.hooks.options[0] and view.record.layout.display == "none"
    assert "there is no model to record it with" in view.map.map["empty"]
    bench.raw.capture()
    assert "a recording alone cannot run again" in panel(bench).stage_alert.value
    bench.state.hook = "blocks.0.attn.hook_rot_q"
    assert view.map.heatmap is not None and panel(bench).stage_alert.value == ""


def test_a_recording_says_in_the_tab_what_needs_a_reply_or_a_model(tiny_lab) -> None:
    bench = Workbench(tiny_lab.record("3+4=?"))
    assert "no thinking" in thinking(bench).answer_here.value
    assert "create the workbench with a lab" in why(bench).lens.map["empty"]
    assert routing(bench).switch.disabled
    bench.state.token = 2
    assert "Token 2" in panel(bench).notes.value


def test_a_reply_is_shown_with_and_without_its_lab(tiny_lab) -> None:
    chat = tiny_lab.chat("3+4=?", seed=0, record=True)
    alone, asking = Workbench(chat), Workbench(chat, lab=tiny_lab)
    assert not alone.asks and asking.asks
    for bench in (alone, asking):
        assert bench.wait() is chat and thinking(bench).thoughts.thinking["steps"]
        assert panel(bench).transcript.reply["question"] == "3+4=?"
    assert alone.state.answers == {} and asking.wait() is chat
    assert asking.state.answers


def test_a_reply_of_other_weights_is_refused() -> None:
    chat = qwen3lab.load("tiny-dense", device="cpu").chat("3+4=?", seed=0, record=True)
    early = qwen3lab.load("tiny-dense", device="cpu", revision="step500")
    with pytest.raises(ValueError, match="give the lab that wrote it"):
        Workbench(chat, lab=early)
    again = qwen3lab.load("tiny-dense", device="cpu")  # The same weights in other memory.
    bench = Workbench(chat, lab=again)
    assert bench.state.chat is chat and bench.state.error == ""


def test_a_reply_in_another_dtype_than_the_lab_is_shown_and_said_to_be(tiny_lab) -> None:
    half = qwen3lab.load("tiny-moe", device="cpu", dtype="bfloat16")
    chat = half.chat("3+4=?", seed=0, record=True)
    bench = Workbench(chat, lab=tiny_lab)
    assert bench.state.chat is chat
    assert "was recorded in bfloat16, and the lab runs in float32" in bench.state.error


def test_the_first_of_several_models_is_asked_and_the_others_are_there_to_compare_with() -> None:
    labs = [FakeLab(), FakeLab(), FakeLab()]
    bench = Workbench(labs, question="Hi")
    bench.run()
    assert bench.lab is labs[0] and bench.others == {"fake (2)": labs[1], "fake (3)": labs[2]}
    assert [len(lab.asked) for lab in labs] == [1, 0, 0]


def test_a_list_of_anything_but_models_is_refused_with_the_way_out(tiny_lab) -> None:
    recording = tiny_lab.record("3+4=?")
    for source in ([], [tiny_lab, recording]):
        with pytest.raises(ValueError, match="a list has the models to ask and to compare with"):
            sources(source, None, None)


def test_a_linked_workbench_shares_picks_and_runs() -> None:
    lab = FakeLab()
    one = Workbench(lab, question="Hi")
    one.run()
    one.state.token, one.state.layer = 9, 3
    other = Workbench(lab, link=one, tab="attention")
    assert other.state.current is one.state.current and other.state.question == "Hi"
    assert (other.state.token, other.state.layer) == (9, 3)
    assert attention(other).map.heatmap.title == "Attention of layer 3, head 0"
    other.state.head = 2
    assert one.state.head == 2
    chat = one.run()
    assert other.state.current is chat and len(lab.asked) == 2
    other.close()
    one.state.head = 0
    assert other.state.head == 2


def test_workbenches_of_one_model_stay_on_the_page_together() -> None:
    lab = FakeLab()
    benches = [Workbench(lab, question=question) for question in ("one", "two")]
    for bench in benches:
        panel(bench)
        bench.wait()
    assert [bench.state.asked for bench in benches] == ["one", "two"]
    assert all(bench.view is not None for bench in benches)


def test_running_the_same_cell_again_closes_what_it_showed_before(monkeypatch) -> None:
    at = [("cell 1", "run 1")]
    monkeypatch.setattr(cells, "parent", lambda: at[0])
    lab = FakeLab()

    def shown(question: str) -> Workbench:
        bench = Workbench(lab, question=question)
        panel(bench)
        bench.wait()
        return bench

    first, beside = shown("first"), shown("beside")
    at[0] = ("cell 2", "run 2")
    elsewhere = shown("elsewhere")
    at[0] = ("cell 1", "run 3")
    again = shown("again")
    assert first.view is None and beside.view is None
    assert elsewhere.view is not None and again.view is not None
    again._ipython_display_()
    assert again.view is not None


def workers() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name.startswith("qwen3lab")}


def test_a_closed_workbench_is_freed_with_its_threads_and_its_recording(tiny_lab) -> None:
    gc.collect()
    before, widgets = workers(), {*w.widgets.widget._instances}
    bench = Workbench(tiny_lab, question="3+4=?")
    for view in (text, attention, routing, thinking, why, compare, raw):
        view(bench)
        bench.wait()
    bench.state.pane, bench.state.curve = "table", True
    bench.state.token = 4
    bench.wait()
    gone = [weakref.ref(each) for each in (bench, bench.state, bench.state.recording)]
    threads = workers() - before
    assert threads and len({*w.widgets.widget._instances} - widgets) > 300
    bench.close()
    for thread in threads:
        thread.join(timeout=20)
    assert workers() <= before
    assert {*w.widgets.widget._instances} <= widgets
    del bench, view
    gc.collect()
    assert [each() for each in gone] == [None, None, None]


def live(kind: type) -> int:
    gc.collect()
    return sum(issubclass(type(each), kind) for each in gc.get_objects())


def tensor_bytes() -> int:
    """Bytes of all plain tensors that are alive, each memory counted once."""
    gc.collect()
    found = {}
    for each in gc.get_objects():
        if type(each) in (torch.Tensor, torch.nn.Parameter):  # Others may have no memory.
            storage = each.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def test_ten_runs_of_a_cell_leave_one_workbench_one_recording_and_no_memory(
    monkeypatch, tiny_lab
) -> None:
    number = [0]
    monkeypatch.setattr(cells, "parent", lambda: ("cell", f"run {number[0]}"))

    def run_the_cell() -> Workbench:
        number[0] += 1
        bench = Workbench(tiny_lab, question="3+4=?", thinking=False)
        panel(bench)
        bench.wait()
        for tab in ("attention", "routing"):
            bench.state.tab = tab
            bench.wait()
        return bench

    benches, recordings = live(Workbench), live(Recording)
    bench = run_the_cell()
    threads, widgets = workers(), len(w.widgets.widget._instances)
    tensors = tensor_bytes()
    for _ in range(10):
        bench = run_the_cell()
    for thread in workers() - threads:
        if thread not in workers_of(bench):
            thread.join(timeout=20)
    assert live(Workbench) == benches + 1 and live(Recording) == recordings + 1
    assert len(workers()) <= len(threads)
    assert len(w.widgets.widget._instances) == widgets
    assert tensor_bytes() - tensors < 100_000
    bench.close()


def workers_of(bench: Workbench) -> set[threading.Thread]:
    """The threads that a workbench keeps while it is open."""
    found = [bench.worker, *(each for part in bench.parts.values() for each in part.workers)]
    pools = [each.executor for each in found if each.executor is not None]
    return {thread for pool in pools for thread in pool._threads}


def test_a_closed_workbench_can_be_displayed_and_asked_again() -> None:
    lab = FakeLab()
    bench = Workbench(lab, question="Hi")
    chat = bench.run()
    bench.close()
    assert bench.view is None and bench.state.current is chat
    assert attention(bench).map.heatmap is not None
    assert bench.run() is bench.state.current is not chat


def test_the_settings_are_folded_into_one_line_that_says_them() -> None:
    bench = Workbench(FakeLab(), question="Hi", budget=16)
    controls = panel(bench).controls
    bench.wait()
    assert controls.folded.layout.display == "none"
    assert controls.fold.description == "think first, budget 16, greedy"
    controls.fold.value = True
    assert controls.folded.layout.display == ""
    bench.state.greedy, bench.state.temperature, bench.state.seed = False, 0.9, 3
    bench.state.budget, bench.state.thinking = None, False
    assert controls.fold.description == "no thinking, no limit, temperature 0.9, seed 3"
