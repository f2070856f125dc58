"""The routing explorer without a kernel: tests set widget values and read them."""

import threading

import pytest
import torch

from qwen3lab.interventions import rerouting
from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Qwen3
from qwen3lab.widgets import RoutingExplorer
from tests.reference import NO_EXPERTS, small_config
from tests.widgets.workbench.benches import panel, routing


def small_lab(tokenizer, **changes):
    fields = {"d_vocab": len(tokenizer), "n_experts_per_token": 2, **changes}
    model = Qwen3(small_config(**fields))
    model.init_weights(torch.Generator().manual_seed(0), std=0.3)
    return Lab(model, tokenizer, "small")


@pytest.fixture(scope="module")
def lab(tiny_tokenizer):
    return small_lab(tiny_tokenizer)


@pytest.fixture
def explorer(lab):
    """A displayed explorer whose first run has ended."""
    corpus = [lab.record([40, 41, 42] * 4), lab.record([43, 44])]
    explorer = RoutingExplorer(lab, question="3+4=?", max_new_tokens=8, corpus=corpus)
    explorer._ipython_display_()
    explorer.wait()
    return explorer


def test_displaying_it_asks_a_question_and_draws_the_routing(explorer):
    view, recording = routing(explorer), explorer.state.chat.recording
    assert view.routing.heatmap.title == "Expert routing in layer 2"
    assert view.load.heatmap.title == "Load of each expert"
    torch.testing.assert_close(view.load.heatmap.values.sum(dim=1), torch.full((2,), 100.0))
    assert len(recording) == len(explorer.state.chat.prompt_ids) + 8


def test_a_clicked_cell_picks_its_token_and_its_expert(explorer):
    view, found = routing(explorer), explorer.state.chat.recording.routing
    token = 5
    expert = int(found.experts[1, token, 0])
    view.routing.selected = [expert, token]
    table = view.by_layer.heatmap.values
    for row in range(2):
        weights = {
            int(e): float(w)
            for e, w in zip(found.experts[row, token], found.weights[row, token], strict=True)
        }
        for e in range(8):
            assert (table[row, e] == weights[e]) if e in weights else table[row, e].isnan()
    assert f"Layer 2: experts {expert} (" in view.by_layer.caption
    assert f"Expert {expert} of layer 2" in view.routed.value
    count = int((found.experts[1] == expert).sum())
    assert f"{count} of {len(found.logits[0])} tokens are routed to it" in view.routed.value


def test_clicking_an_expert_of_another_layer_picks_the_layer(explorer):
    view = routing(explorer)
    view.load.selected = [0, 3]
    assert (explorer.state.routing_layer, explorer.state.expert) == (1, 3)
    assert view.routing.heatmap.title == "Expert routing in layer 1"
    assert view.pickers.routing_layer.value == 1
    assert view.load.marked == [0, 3]


def test_corpus_tokens_have_the_share_of_occurrences_routed_to_the_expert(explorer, lab):
    view = routing(explorer)
    recording = lab.record([40, 41, 42] * 4)
    expert = int(recording.routing.experts[1, 0, 0])
    view.load.selected = [1, expert]
    text = recording.tokens[0].strip()
    share = (recording.routing.experts[1, ::3] == expert).any(dim=-1).float().mean()
    in_corpus = view.routed.value.split("in the corpus")[1]
    assert f"{text}<small>{float(share):.2f}</small>" in in_corpus
    assert "title=" not in in_corpus, "a corpus token has no single position"


def test_switching_an_expert_off_asks_again_and_shows_both_replies(explorer, lab):
    view, before = routing(explorer), explorer.state.chat
    expert = int(before.recording.routing.experts[1].flatten().mode().values)
    view.load.selected = [1, expert]
    view.switch.click()
    after = explorer.wait()
    assert not (after.recording.routing.experts[1] == expert).any()
    edits = rerouting.off(expert, layers=2)
    expected = lab.record(after.recording.token_ids.tolist(), edits=edits)
    assert torch.equal(after.recording.routing.experts, expected.routing.experts)
    assert explorer.state.baseline.token_ids == before.token_ids
    assert (
        "without the changes" in view.replies.value
        and f"expert 2.{expert} off" in view.replies.value
    )
    assert view.load.heatmap.title == "Load: this run minus the run without the changes"
    assert view.switch.description == "Switch on and ask again"


def test_switching_all_experts_on_gives_the_first_reply_again(explorer):
    view, before = routing(explorer), explorer.state.chat
    view.load.selected = [1, int(before.recording.routing.experts[1, 0, 0])]
    view.switch.click()
    explorer.wait()
    explorer.switch_all_on()
    assert explorer.wait().token_ids == before.token_ids
    assert explorer.state.changes == () and explorer.state.baseline is None


def test_the_direct_logit_effect_of_an_expert_is_routing(explorer):
    view = routing(explorer)
    expert = int(explorer.state.chat.recording.routing.experts[1, 0, 0])
    view.load.selected = [1, expert]
    view.write.click()
    explorer.wait()
    assert "raises" in view.logit_effect.value and "lowers" in view.logit_effect.value
    assert explorer.state.error == ""
    view.load.selected = [0, expert]
    assert view.logit_effect.value == ""


def test_errors_are_shown_in_the_explorer(explorer, lab):
    view = routing(explorer)
    view.load.selected = [1, 5]
    view.switch.click()
    explorer.wait()
    view.write.click()
    explorer.wait()
    assert "no token is routed to expert 5 of layer 2" in panel(explorer).stage_alert.value


def test_a_dense_model_shows_an_error(tiny_tokenizer):
    explorer = RoutingExplorer(small_lab(tiny_tokenizer, **NO_EXPERTS), question="3+4=?")
    explorer._ipython_display_()
    assert "small is dense: it has no experts" in panel(explorer).alert.value


def test_the_maps_of_the_largest_published_shape_fit_the_page(tiny_tokenizer):
    """94 layers of 128 experts: the maps hold one byte per layer and expert."""
    lab = small_lab(
        tiny_tokenizer,
        n_layers=94,
        n_experts=128,
        n_experts_per_token=8,
        d_expert=4,
        moe_layers=tuple(range(94)),
    )
    explorer = RoutingExplorer(lab, question="3+4=?", max_new_tokens=4)
    explorer._ipython_display_()
    explorer.wait()
    view = routing(explorer)
    view.routing.selected = [0, 3]
    for canvas in (view.by_layer, view.load):
        assert canvas.heatmap.values.shape == (94, 128)
        assert len(canvas.map["cells"]) == 94 * 128
    assert view.load.height <= 600


def test_the_direct_logit_effect_is_computed_in_the_background(explorer, lab):
    view, held, release = routing(explorer), threading.Event(), threading.Event()

    def hold():
        with lab.lock:
            held.set()
            release.wait(timeout=5)

    expert = int(explorer.state.chat.recording.routing.experts[1, 0, 0])
    view.load.selected = [1, expert]
    threading.Thread(target=hold).start()
    assert held.wait(timeout=20)
    view.write.click()
    assert "one more forward pass" in view.logit_effect.value, (
        "the callback returns while the model is busy"
    )
    release.set()
    explorer.wait()
    assert "raises" in view.logit_effect.value


def test_the_direct_logit_effect_is_discarded_after_another_pick(explorer, lab):
    view, expert = routing(explorer), int(explorer.state.chat.recording.routing.experts[1, 0, 0])
    view.load.selected = [1, expert]
    with lab.lock:
        view.write.click()
        view.load.selected = [0, expert]
    explorer.wait()
    assert view.logit_effect.value == ""


def test_a_run_stopped_before_the_reply_with_all_experts_on_shows_no_comparison(
    explorer, lab, monkeypatch
):
    view, plain = routing(explorer), lab.chat

    def chat(*args, **options):
        if "on_step" not in options:
            explorer.stop()
        return plain(*args, **options)

    monkeypatch.setattr(lab, "chat", chat)
    explorer.interventions.plain = None  # Else the run before is compared with.
    view.load.selected = [1, 5]
    view.switch.click()
    assert explorer.wait().stop == "length"  # The reply itself was complete.
    assert explorer.state.baseline is None and view.replies.value == ""
    assert "there is no comparison" in panel(explorer).changes.alert.value
    assert view.load.heatmap.title == "Load of each expert"
