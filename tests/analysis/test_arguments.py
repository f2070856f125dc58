"""Arguments of analyses that once gave a number which means nothing, or a message from afar."""

import re

import pytest
import torch

import qwen3lab
from qwen3lab.analysis import (
    attention,
    balance,
    choices,
    circuits,
    expert_output,
    flops,
    heads,
    map_windows,
    pooling,
    routing,
    specialisation,
    structure,
    value_weighted,
    vocabulary,
)
from qwen3lab.experiments import controls, effects, knockout

EXPERTS = torch.tensor([[1, 0], [2, 3], [-1, -1]])
COUNTS = torch.tensor([[3.0, 1.0], [2.0, 2.0]])


@pytest.fixture(scope="module")
def moe():
    return qwen3lab.load("tiny-moe", device="cpu")


@pytest.fixture(scope="module")
def recording(moe):
    return moe.record("3+2*7=?", capture=expert_output.NEEDED)


@pytest.fixture(scope="module")
def dense():
    return qwen3lab.load("tiny-dense", device="cpu")


PURE = {
    "n_experts is 0: expected 1 or more": lambda: structure.chosen(EXPERTS, 0),
    "expert 3 does not exist: the layer has experts 0 to 2": lambda: structure.chosen(EXPERTS, 3),
    "expert 3 does not exist: the layer": lambda: structure.co_activation(EXPERTS, 3),
    "expert 7 does not exist": lambda: balance.balance_loss(torch.zeros(3, 4), EXPERTS * 0 + 7),
    "no token was counted": lambda: balance.balance_loss(torch.zeros(3, 4), EXPERTS * 0 - 1),
    "a load is negative": lambda: balance.balance(torch.tensor([-1.0, 3.0])),
    "a weight is negative": lambda: choices.effective_experts(torch.tensor([[-1.0, 2.0]])),
    "at_least is 1.5: expected 0 to 1": lambda: structure.committee(EXPERTS, 4, at_least=1.5),
    "(2, 3): expected a square": lambda: structure.cluster_order(torch.ones(2, 3)),
    "period is 0: expected 1 or more": lambda: heads.induction_score(torch.ones(1, 4, 4), 0),
    "4 queries and 3 keys": lambda: heads.previous_token_score(torch.ones(1, 4, 3)),
    "query -1 does not exist": lambda: heads.attention_between(
        torch.ones(1, 4, 4), torch.tensor([-1]), torch.tensor([0])
    ),
    "max_side is -1: expected 1": lambda: pooling.max_pool(torch.ones(2, 2), max_side=-1),
    "label -1 is negative": lambda: specialisation.label_information(COUNTS, torch.tensor([-1, 0])),
    "a document has no tokens": lambda: specialisation.share_intervals(
        COUNTS, torch.tensor([0, 4]), torch.tensor([0, 0])
    ),
    "seed is -1: expected 0": lambda: structure.overlap(COUNTS, COUNTS, seed=-1),
    "n_permutations is 0": lambda: structure.overlap(COUNTS, COUNTS, n_permutations=0),
    "experts are [1, 1]: expected": lambda: controls.sets_of_like_load(COUNTS[0], [1, 1], n=1),
}


@pytest.mark.parametrize("message", PURE)
def test_numbers_that_mean_nothing_are_refused(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        PURE[message]()


OF_RECORDINGS = {
    "block is -1: expected 1 or more": lambda rec: attention.head_profile(rec, block=-1),
    "block is 0: expected 1": lambda rec: attention.key_mass(rec, block=0),
    "queries are []: expected": lambda rec: attention.rollout(rec, (n for n in ())),
    "queries[0] is 1.0: expected an integer": lambda rec: attention.rollout(rec, [1.0]),
    "rows is (0, 1, 2): expected 2 values": lambda rec: map_windows.window(
        rec, 0, 0, rows=(0, 1, 2)
    ),
    "side is 0: expected 1": lambda rec: map_windows.thumbnails(rec, 0, side=0),
    "no layers to show": lambda rec: map_windows.attention_wall(rec, []),
    "the step of tokens is -1": lambda rec: routing.layer_loads(rec, tokens=slice(None, None, -1)),
    "at_least is 0: expected 1": lambda rec: vocabulary.served_vocabulary([rec], 2, 1, at_least=0),
    "row is 9: the model has 6 layers": lambda rec: specialisation.by_document({"a": [rec]}, 9),
    "there is no recording": lambda rec: specialisation.by_document({}, 0),
    "n_new is -1: expected 1": lambda rec: flops.forward_flops(rec.config, -1),
    "n_logits is 5: expected at most": lambda rec: flops.forward_flops(rec.config, 1, n_logits=5),
}


@pytest.mark.parametrize("message", OF_RECORDINGS)
def test_places_that_a_recording_does_not_have_are_refused(recording, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        OF_RECORDINGS[message](recording)


def test_recordings_of_another_model_are_refused(moe, dense, recording):
    other = dense.record("3+2*7=?", capture=value_weighted.NEEDED)
    for act in (
        lambda: expert_output.direct_logits(dense, recording, 2),
        lambda: value_weighted.carried(moe, other, 0),
    ):
        with pytest.raises(ValueError, match=r"recording is of tiny-\w+, whose sizes differ"):
            act()
    with pytest.raises(ValueError, match="models of different sizes"):
        specialisation.by_document({"a": [recording], "b": [other]}, 0)


def test_weights_of_empty_slots_do_not_count():
    table = routing.weights_by_expert(EXPERTS, torch.ones(3, 2), 4)
    assert table.tolist() == [[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]


def test_the_balance_loss_counts_chosen_experts_only():
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]] * 3)
    full = balance.balance_loss(logits[:2], EXPERTS[:2])
    torch.testing.assert_close(balance.balance_loss(logits, EXPERTS), full)


def test_more_pairs_than_there_are_tokens_are_all_tokens(moe, recording):
    expert = int(recording.routing.layer(2).experts[0, 0])
    found = expert_output.expert_writing(moe, [recording], 2, expert, n=10**6)
    assert len(found.raised) == moe.config.d_vocab
    with pytest.raises(ValueError, match="n is 0: expected 1 or more"):
        circuits.ov_pairs(moe, 0, 0, n=0)


def test_layers_of_experiments_exist_and_count_from_0(moe):
    texts = [effects.Text("a", moe.token_ids("3+2=?"))]
    last, counted = (effects.expert_loads(moe, texts, [layer]) for layer in (-1, 5))
    assert torch.equal(last, counted) and last.layers == (5,)
    for layer in (99, -99):
        with pytest.raises(ValueError, match=f"layer {layer} has no experts"):
            effects.expert_loads(moe, texts, [layer])
    with pytest.raises(ValueError, match="a list of experts or layers is empty"):
        knockout.knock_out(moe, texts, layers=[], progress=False)
