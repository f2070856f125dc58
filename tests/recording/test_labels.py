"""A labelled tensor behaves like any tensor, and results of operations have no labels."""

import copy
import pickle

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from qwen3lab.errors import RecordingError
from qwen3lab.recording.labels import LabelledTensor, Labels, labelled, relabelled
from tests.fake_lab import DENSE, MOE, record

VALUES = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
LABELS = Labels("attention", ("query", "key"), (3,), 0, ("<b>", "\x1b[31m"), "tiny")
TENSOR = labelled(VALUES.clone(), LABELS)


def test_it_is_a_tensor_with_the_same_values_and_has_labels():
    assert isinstance(TENSOR, Tensor) and isinstance(TENSOR, Float[Tensor, "query key"])
    assert torch.equal(TENSOR, VALUES)
    torch.testing.assert_close(TENSOR, VALUES)
    assert type(TENSOR.plain()) is Tensor and torch.equal(TENSOR.plain(), VALUES)
    assert (TENSOR.layer, TENSOR.head, TENSOR.model_name) == (3, 0, "tiny")
    assert TENSOR.tokens == ("<b>", "\x1b[31m") and TENSOR.layers == (3,)


@pytest.mark.parametrize(
    "operation",
    [
        lambda t: t + 1,
        lambda t: 1 - t,
        lambda t: t[0],
        lambda t: t[:1],
        lambda t: t.T,
        lambda t: t @ t,
        lambda t: t.mean(dim=0),
        lambda t: t.clone(),
        lambda t: t > 0.5,
        lambda t: torch.stack([t, t]),
        lambda t: torch.cat([t, t]),
        lambda t: t.softmax(dim=-1),
        lambda t: t.to(torch.float16),
    ],
)
def test_an_operation_returns_a_plain_tensor_with_the_same_values(operation):
    result = operation(TENSOR)
    assert type(result) is Tensor
    assert torch.equal(result, operation(VALUES))


# torch's `__array__` has no `copy` argument; plain tensors cause the same warning.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_numpy_plotly_and_safetensors_accept_it(tmp_path):
    assert np.array_equal(TENSOR.numpy(), VALUES.numpy())
    assert np.array_equal(np.asarray(TENSOR), VALUES.numpy())
    assert [list(row) for row in go.Heatmap(z=TENSOR).z] == VALUES.tolist()
    save_file({"map": TENSOR}, tmp_path / "map.safetensors")
    assert torch.equal(load_file(tmp_path / "map.safetensors")["map"], VALUES)


def test_gradients_flow_through_it():
    leaf = VALUES.clone().requires_grad_()
    labelled(leaf * 2, LABELS).sum().backward()
    assert leaf.grad is not None and torch.equal(leaf.grad, torch.full((2, 2), 2.0))


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, copy.copy, lambda t: pickle.loads(pickle.dumps(t))]
)
def test_copies_keep_the_labels(duplicate):
    copied = duplicate(TENSOR)
    assert isinstance(copied, LabelledTensor) and copied.labels == LABELS
    assert torch.equal(copied, VALUES)


def test_repr_is_one_escaped_line_and_html_is_an_escaped_table_with_names():
    assert repr(TENSOR) == "Attention, layer 3, head 0 · tiny: a tensor of 2 query × 2 key, float32"
    load = Labels("load", ("layer", "token"), (1, 5), None, ("<b>", "\x1b[31m"), "<i>")
    html = labelled(VALUES.clone(), load)._repr_html_()
    assert "0 &lt;b&gt;" in html and r"1 \x1b[31m" in html and "<th>5</th>" in html
    assert "0.75" in html and "<b></" not in html and "\x1b" not in html and "<i>" not in html


def test_empty_and_three_dimensional_values_show_no_table():
    empty = labelled(torch.zeros(0, 0), LABELS)
    assert "<table" not in empty._repr_html_() and "0 query × 0 key" in repr(empty)
    cube = labelled(torch.zeros(2, 3, 4), Labels("mass", ("layer", "head", "key"), (1, 5)))
    assert "<table" not in cube._repr_html_() and "layers 1, 5" in repr(cube)


def test_a_wrong_number_of_axis_names_is_refused_and_plain_sources_give_no_labels():
    with pytest.raises(ValueError, match=r"2 axis names were given for a tensor of shape \(3,\)"):
        labelled(torch.zeros(3), LABELS)
    assert type(relabelled(VALUES, VALUES, "load", ["a", "b"])) is Tensor


def test_routing_of_a_layer_is_indexed_by_its_number_in_the_model():
    recording = record(MOE, ["a", "b", "c"], {})  # layers 1 and 3 have experts
    routing = recording.routing.layer(3)
    assert torch.equal(routing.experts, recording.routing.experts[1])
    assert torch.equal(routing.weights, recording.routing.weights[1])
    assert torch.equal(routing.logits, recording.routing.logits[1])
    assert recording.routing.layer(-1).layer == 3 and routing.tokens == ("a", "b", "c")
    assert routing.experts.layer == 3 and routing.experts.tokens == ("a", "b", "c")
    table = routing.to_pandas()
    assert list(table) == ["token", "token_text", "expert 0", "weight 0", "expert 1", "weight 1"]
    assert table["expert 1"].tolist() == routing.experts[:, 1].tolist()


@pytest.mark.parametrize(
    ("config", "layer", "message"),
    [
        (MOE, 2, "^layer 2 has no experts: the layers with experts are 1, 3$"),
        (MOE, -2, "^layer 2 has no experts: the layers with experts are 1, 3$"),
        (MOE, 9, "^layer 9 has no experts: the layers with experts are 1, 3$"),
        (DENSE, 0, "the layers with experts are none, because this model is dense$"),
    ],
)
def test_a_layer_without_experts_is_refused_with_the_layers_that_have_experts(
    config, layer, message
):
    with pytest.raises(RecordingError, match=message):
        record(config, ["a"], {}).routing.layer(layer)


def test_a_tensor_that_an_operation_in_place_reshaped_is_still_shown():
    values = labelled(torch.zeros(2, 3), Labels("load", ("layer", "expert")))
    values.unsqueeze_(0)
    assert "1 × 2 × 3" in repr(values)
