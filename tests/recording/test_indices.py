"""What indexes a recording, and what is refused by name."""

import copy
import pickle

import numpy as np
import pytest
import torch

from qwen3lab.errors import HookError, RecordingError
from qwen3lab.hooks.points import resolve_hooks
from qwen3lab.recording.indices import index_of, whole_number, whole_slice


@pytest.fixture(scope="module")
def recording(tiny_lab):
    return tiny_lab.record("3+2*7-1=?", capture="all")


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_integers_of_python_numpy_and_torch_are_indices(value):
    assert whole_number(value, "the layer") == 3
    assert index_of(value, 4, "layer", "the model") == 3


@pytest.mark.parametrize(
    "value", [True, np.True_, torch.tensor(True), 1.0, "1", None, [1], slice(1), torch.tensor(1.0)]
)
def test_everything_else_is_no_index(value):
    with pytest.raises(RecordingError, match=r"the layer is of type \w+: expected an integer"):
        whole_number(value, "the layer")


def test_negative_indices_count_from_the_end():
    assert [index_of(n, 4, "head", "layer 2") for n in (-4, -1, 0)] == [0, 3, 0]
    for number in (-5, 4):
        with pytest.raises(RecordingError, match=rf"head {number} does not exist: layer 2 has"):
            index_of(number, 4, "head", "layer 2")


@pytest.mark.parametrize("value", [1, None, [1, 2], (0, 2), "x", slice(0.5), slice("a", None)])
def test_only_slices_of_integers_select(value):
    with pytest.raises(RecordingError, match="queries is of type"):
        whole_slice(value, "queries")


def test_slices_that_run_backwards_are_refused():
    for step in (0, -1):
        with pytest.raises(RecordingError, match=rf"step of heads is {step}: expected 1 or more"):
            whole_slice(slice(None, None, step), "heads")
    assert whole_slice(slice(np.int64(1), None, 2), "heads") == slice(1, None, 2)


def test_attention_by_layer_alone_is_refused_with_the_way_to_all_heads(recording):
    # Without the tests' type checks, which refuse it before.
    getitem = type(recording.attention).__getitem__.__wrapped__
    for index in (3, (3,), (0, 1, 2), None):
        with pytest.raises(RecordingError, match=r"attention.pattern\(layer\) returns all heads"):
            getitem(recording.attention, index)


@pytest.mark.parametrize("size", [0, -1])
def test_blocks_of_no_queries_are_refused_at_once(recording, size):
    with pytest.raises(RecordingError, match=f"size is {size}: expected 1 query or more"):
        recording.attention.blocks(2, size=size)


def test_writing_to_what_a_recording_returns_leaves_the_recording_as_it_is(tiny_lab):
    recording = tiny_lab.record("3+2*7-1=?", capture="all")
    before = copy.deepcopy(recording)
    dataset = recording.to_xarray()
    layer = recording.routing.layer(2)
    for name in recording.capture:
        value = recording[name]
        value -= 1
        dataset_name = name if name in dataset else None
        if dataset_name:
            dataset[dataset_name].values[...] = 7
    for value in (
        recording.logits,
        recording.attention[3, 0],
        recording.attention.pattern(2),
        recording.routing.logits,
        layer.experts,
        layer.weights,
        layer.logits,
    ):
        value -= 1
    for name in recording.capture:
        assert torch.equal(recording.raw(name), before.raw(name)), name


def test_a_recording_equals_its_copies_and_differs_from_others(tiny_lab, tmp_path):
    recording, other = tiny_lab.record("3+2=?"), tiny_lab.record("3+3=?")
    recording.save(tmp_path / "run")
    copies = [
        copy.deepcopy(recording),
        pickle.loads(pickle.dumps(recording)),
        type(recording).load(tmp_path / "run"),
        tiny_lab.record("3+2=?"),
    ]
    for same in copies:
        assert recording == same and hash(recording) == hash(same)
        assert same in [other, recording] and same not in [other]
    copies[0].raw("hook_unembed")[0, 0] += 1
    assert copies[0] != recording
    assert recording != tiny_lab.record("3+2=?", dtype="bfloat16")
    assert recording != "3+2=?" and len({recording, copies[1], other}) == 2


def test_replies_are_equal_by_value(tiny_lab):
    options = {"max_new_tokens": 8, "seed": 0, "record": True}
    one, same, other = (tiny_lab.chat(q, **options) for q in ("3+2=?", "3+2=?", "1+1=?"))
    assert one == same and hash(one) == hash(same) and one in [other, same]
    assert one != other and copy.deepcopy(one) == one
    assert tiny_lab.generate("3+", max_new_tokens=2) == tiny_lab.generate("3+", max_new_tokens=2)


def test_a_recording_has_hooks_and_is_no_sequence(recording):
    assert "hook_unembed" in recording and "nothing" not in recording and 5 not in recording
    with pytest.raises(RecordingError, match="iterate over its tokens, or over its capture"):
        list(recording)


@pytest.mark.parametrize("names", [5, None, [1], [None], b"hook_embed"])
def test_hook_names_that_are_no_text_are_refused(names, tiny_lab):
    resolve = getattr(resolve_hooks, "__wrapped__", resolve_hooks)
    with pytest.raises(HookError, match="a hook name is text such as"):
        resolve(names, tiny_lab.config)


def test_a_layer_number_does_not_index_a_recording(recording):
    raw = getattr(type(recording).raw, "__wrapped__", type(recording).raw)
    with pytest.raises(HookError, match="indexed by the name of a hook, not by type int"):
        raw(recording, 0)
