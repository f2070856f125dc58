"""Figures read tokens, layers and titles from the values; explicit arguments win."""

import pytest
import torch

from qwen3lab import figures
from qwen3lab.analysis.attention import key_mass
from qwen3lab.analysis.corpus import RoutingCorpus
from qwen3lab.analysis.routing import expert_load, layer_loads, layer_weights
from qwen3lab.analysis.structure import co_activation, transitions
from qwen3lab.analysis.thinking_text import Looks
from tests.fake_lab import MOE, record

RECORDING = record(MOE, ["<b>", "x", "y"], {})  # layers 1 and 3 have experts
LOADS = layer_loads(RECORDING)


def test_a_heads_map_reads_tokens_and_title_from_its_labels():
    figure = figures.attention_map(RECORDING.attention[3, 0])
    assert figure.layout.title.text == f"Attention of layer 3, head 0 · {RECORDING.model_name}"
    assert figure.data[0].x == ("0 &lt;b&gt;", "1 x", "2 y")
    last = figures.attention_map(RECORDING.attention[-1, -1]).layout.title.text
    assert last.startswith("Attention of layer 3, head 3")


def test_explicit_tokens_layer_and_head_take_precedence_over_the_labels():
    figure = figures.attention_map(RECORDING.attention[3, 0], ["p", "q", "r"], layer=7, head=5)
    assert figure.layout.title.text.startswith("Attention of layer 7, head 5")
    assert figure.data[0].y == ("0 p", "1 q", "2 r")


def test_a_model_name_is_escaped_in_a_title():
    hostile = record(MOE, ["a"], {})
    object.__setattr__(hostile, "model_name", "<img src=x>{0}")
    for figure in (
        figures.attention_map(hostile.attention[1, 0]),
        figures.token_strip(hostile.routing.layer(3)),
        figures.attention_wall(hostile),
    ):
        assert "&lt;img src=x&gt;{0}" in figure.layout.title.text


def test_loads_and_weights_are_drawn_with_the_layer_numbers_of_their_labels():
    assert figures.expert_load(LOADS).data[0].y == ("1", "3")
    difference = figures.load_difference(LOADS, LOADS, names=("a", "b"))
    assert difference.data[0].y == ("1", "3")
    corpus = RoutingCorpus(MOE)
    corpus.add(RECORDING, "all")
    assert figures.expert_load(corpus.load()).data[0].y == ("1", "3")
    weights = figures.routing_map(layer_weights(RECORDING, 3))
    assert ", layer 3 · " in weights.layout.title.text and weights.data[0].x[0] == "0 &lt;b&gt;"


def test_the_token_strip_of_a_layers_routing_shows_the_experts_with_the_largest_weight():
    routing = RECORDING.routing.layer(3)
    (trace,) = figures.token_strip(routing).data
    assert list(trace.z[0][:3]) == routing.experts[:, 0].tolist()
    with pytest.raises(ValueError, match="tokens without experts"):
        figures.token_strip(["a"])


def test_co_activation_and_transitions_show_the_layers_of_their_experts():
    first, second = (RECORDING.routing.layer(layer).experts for layer in (1, 3))
    together = figures.co_activation(co_activation(second, MOE.n_experts))
    assert ", layer 3" in together.layout.title.text
    flow = figures.transitions(transitions(first, second, MOE.n_experts))
    assert flow.layout.yaxis.title.text == "expert in layer 1"
    assert flow.layout.xaxis.title.text == "expert in layer 3"


def test_the_attention_mass_of_some_layers_shows_their_numbers():
    activations = {k: v for k, v in RECORDING.activations.items() if "blocks.2." in k}
    mass = key_mass(type(RECORDING)(RECORDING.token_ids, ["a", "b", "c"], MOE, "m", activations))
    (line,) = figures.sink_profile(mass).data
    assert line.name == "layer 2" and line.x[2] == "2 c"


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.expert_load(LOADS.plain()),
        lambda: figures.expert_load(LOADS[:1]),
        lambda: figures.load_difference(1 * LOADS, LOADS, names=("a", "b")),
        lambda: figures.sink_profile(torch.ones(2, 4, 3), ["a", "b", "c"]),
        lambda: figures.answer_looks(Looks(("question",), torch.ones(2, 4, 1))),
    ],
)
def test_rows_with_unknown_layers_are_refused_and_not_numbered_from_0(draw):
    with pytest.raises(ValueError, match="pass layers="):
        draw()


def test_a_plain_map_without_tokens_is_refused():
    with pytest.raises(ValueError, match="without token labels: pass tokens="):
        figures.attention_map(torch.eye(2))


def test_one_layers_load_is_labelled_with_layer_and_model():
    load = expert_load(RECORDING.routing.layer(3).experts, MOE.n_experts)
    assert (load.layer, load.model_name) == (3, RECORDING.model_name)
