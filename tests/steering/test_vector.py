"""Steering vectors: what they add, where, and that transformers with the same vector agrees."""

import numpy as np
import pytest
import torch

from qwen3lab import Sampling, metrics, steering
from qwen3lab.errors import HookError
from qwen3lab.hooks.edits import Edits
from qwen3lab.interventions import rerouting
from qwen3lab.lab import Lab
from qwen3lab.loading import from_transformers
from qwen3lab.model.transformer import Qwen3
from qwen3lab.steering import Addition, Vector
from tests.reference import CASES, SMALL, hf_random, positions, small_config, tokens

LAYER = 1
PROMPTS = ("3+2=?", "3+2*7-1+4*2-3=?", "1+1=?")


def a_vector(d_model, *, layer=LAYER, seed=5, size=1.0):
    generator = torch.Generator().manual_seed(seed)
    return Vector((Addition(layer, size * torch.randn(d_model, generator=generator)),), "a test")


def steered(value, direction):
    """What a forward hook of transformers returns."""
    hidden = value[0] if isinstance(value, tuple) else value
    moved = hidden + direction
    return (moved, *value[1:]) if isinstance(value, tuple) else moved


@pytest.fixture(scope="module")
def lab(tiny_tokenizer):
    config = small_config(d_vocab=len(tiny_tokenizer))
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0), std=0.3)
    return Lab(model, tiny_tokenizer, "small")


@pytest.mark.parametrize("name", CASES)
def test_transformers_with_a_forward_hook_that_adds_the_vector_agrees(name):
    hf = hf_random(name)
    ours, ids = from_transformers(hf), tokens(batch=2)
    vector = 3 * a_vector(SMALL["hidden_size"])
    handle = hf.model.layers[LAYER].register_forward_hook(
        lambda module, args, output: steered(output, vector[LAYER])
    )
    with torch.no_grad():
        found = ours(ids, tap=Edits(vector, ours.config, padding=(0, 0)))
        torch.testing.assert_close(found, hf(ids).logits, atol=1e-5, rtol=1e-4)
        handle.remove()
        assert not torch.allclose(found, hf(ids).logits, atol=1e-2)


@pytest.mark.parametrize("name", ["dense", "experts"])
def test_transformers_agrees_on_a_padded_batch_steered_at_some_positions(name):
    hf, length = hf_random(name), 12
    ours, ids = from_transformers(hf), tokens(batch=2, length=length)
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, :5] = False
    vector = a_vector(SMALL["hidden_size"]).at(positions=slice(2, 5))
    at = positions(mask)
    wanted = (mask & (at >= 2) & (at < 5)).float()[..., None]
    hf.model.layers[LAYER].register_forward_hook(
        lambda module, args, output: steered(output, wanted * vector[LAYER])
    )
    with torch.no_grad():
        found = ours(ids, mask=mask, tap=Edits(vector, ours.config, padding=(0, 5)))
        expected = hf(ids, attention_mask=mask, position_ids=at).logits
    torch.testing.assert_close(found[mask], expected[mask], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("hook", ["hook_resid_pre", "hook_resid_mid", "hook_mlp_out"])
def test_a_vector_acts_as_an_edit_by_hand_at_any_hook_of_the_stream(lab, hook):
    vector = a_vector(lab.config.d_model).at(hook=hook)
    by_hand = {f"blocks.{LAYER}.{hook}": lambda value, name: value + vector[LAYER]}
    found = lab.record(PROMPTS[1], edits=vector)
    assert torch.equal(found.logits, lab.record(PROMPTS[1], edits=by_hand).logits)


def test_numbers_and_signs_multiply_the_direction(lab):
    vector = a_vector(lab.config.d_model)
    expected = vector[LAYER] * 2.5
    for found in (2.5 * vector, vector * 2.5, np.float64(2.5) * vector, -(-2.5 * vector)):
        torch.testing.assert_close(found[LAYER], expected)
    assert (2 * vector).additions[0].norm == pytest.approx(2 * float(vector[LAYER].norm()))


def test_a_sum_of_vectors_acts_as_both_of_them(lab):
    one, other = a_vector(lab.config.d_model), a_vector(lab.config.d_model, layer=2, seed=6)
    same = a_vector(lab.config.d_model, seed=7)
    by_hand = {
        "blocks.1.hook_resid_post": lambda value, name: value + one[1] - same[1],
        "blocks.2.hook_resid_post": lambda value, name: value + other[2],
    }
    expected = lab.record(PROMPTS[1], edits=by_hand).logits
    total = one + other - same
    assert total.layers == (1, 2)
    torch.testing.assert_close(lab.record(PROMPTS[1], edits=total).logits, expected)
    in_a_list = lab.record(PROMPTS[1], edits=[one, other, -same]).logits
    torch.testing.assert_close(in_a_list, expected)


def test_sums_at_different_tokens_keep_both_places(lab):
    vector = a_vector(lab.config.d_model)
    both = vector.at(positions=[1]) + 2 * vector.at(positions=slice(3, None))
    rec = lab.record(PROMPTS[1], edits=both, capture="blocks.1.hook_resid_post")
    plain = lab.record(PROMPTS[1], capture="blocks.1.hook_resid_post")
    added = rec["blocks.1.hook_resid_post"] - plain["blocks.1.hook_resid_post"]
    factors = torch.tensor([0.0, 1, 0] + [2.0] * (len(rec) - 3))
    torch.testing.assert_close(added, factors[:, None] * vector[1], atol=1e-5, rtol=1e-4)


def test_a_vector_of_one_layer_can_be_put_at_others(lab):
    vector = a_vector(lab.config.d_model)
    moved = vector.at(layers=[0, 2])
    assert moved.layers == (0, 2)
    assert torch.equal(moved[0], vector[1]) and torch.equal(moved[2], vector[1])
    assert moved.at(layers=2).layers == (2,)
    with pytest.raises(HookError, match="no direction for layer 1: its layers are 0, 2"):
        moved.at(layers=1)


def test_each_prompt_of_a_batch_is_steered_as_if_it_ran_alone(lab):
    for places in ("all", "last", [0, 2], slice(3, None, 2), steering.thinking(lab)):
        vector = a_vector(lab.config.d_model).at(positions=places)
        for prompt, rec in zip(PROMPTS, lab.record_batch(PROMPTS, edits=vector), strict=True):
            alone = lab.record(prompt, edits=vector)
            torch.testing.assert_close(rec.logits, alone.logits, atol=1e-4, rtol=1e-4)


def test_a_reply_equals_one_run_over_its_text_with_the_same_vector(lab):
    vector = 2 * a_vector(lab.config.d_model)
    reply = lab.generate(PROMPTS[1], edits=vector, max_new_tokens=6, record="hook_unembed")
    text = [*lab.token_ids(PROMPTS[1]), *reply.token_ids]
    again = lab.record(text, edits=vector)
    torch.testing.assert_close(reply.recording.logits, again.logits, atol=1e-4, rtol=1e-4)


def test_the_reply_or_the_prompts_last_token_alone_is_steered(lab):
    vector, n = 2 * a_vector(lab.config.d_model), len(lab.token_ids(PROMPTS[1]))
    options = {"max_new_tokens": 6, "record": "hook_unembed", "sampling": Sampling.greedy()}
    reply = lab.generate(PROMPTS[1], edits=vector.at(positions="generated"), **options)
    after = vector.at(positions=slice(n, None))
    again = lab.record([*lab.token_ids(PROMPTS[1]), *reply.token_ids], edits=after)
    torch.testing.assert_close(reply.recording.logits, again.logits, atol=1e-4, rtol=1e-4)
    at_end = lab.generate(PROMPTS[1], edits=vector.at(positions="last"), **options)
    again = lab.record(
        [*lab.token_ids(PROMPTS[1]), *at_end.token_ids], edits=vector.at(positions=n - 1)
    )
    torch.testing.assert_close(at_end.recording.logits, again.logits, atol=1e-4, rtol=1e-4)
    unsteered = lab.record(PROMPTS[1], edits=vector.at(positions="generated"))
    assert torch.equal(unsteered.logits, lab.record(PROMPTS[1]).logits)


@pytest.mark.parametrize("n_first", [8, 3, 7])
def test_thinking_tokens_alone_are_steered_wherever_the_marks_are(lab, n_first):
    """The text runs in one pass, or as a prompt and a step for each later token."""
    start, end = lab.marks.think, lab.marks.end_think
    ids, thinks = [5, start, 7, 8, end, 9, start, 6], [1, 2, 3, 6, 7]
    vector = a_vector(lab.config.d_model)
    edits = Edits(vector.at(positions=steering.thinking(lab)), lab.config)
    cache, logits = lab.model.new_cache(batch=1), torch.zeros(0)
    with torch.no_grad():
        for each in [ids[:n_first], *([token] for token in ids[n_first:])]:
            logits = lab.model(torch.tensor([each]), cache=cache, tap=edits)
    expected = lab.record(ids, edits=vector.at(positions=thinks)).logits[-1]
    torch.testing.assert_close(logits[0, -1], expected, atol=1e-4, rtol=1e-4)


def test_steered_replies_of_a_batch_are_those_of_single_chats(tiny_lab):
    vector = a_vector(tiny_lab.config.d_model, layer=2, size=8.0)
    for places in ("all", "generated", steering.thinking(tiny_lab)):
        edits = [vector.at(positions=places), rerouting.off(3)]
        options = {"edits": edits, "sampling": Sampling.greedy(), "max_new_tokens": 10}
        batch = tiny_lab.chat_batch(PROMPTS, **options)
        alone = [tiny_lab.chat(prompt, **options) for prompt in PROMPTS]
        assert [chat.token_ids for chat in batch] == [chat.token_ids for chat in alone]
        plain = tiny_lab.chat_batch(PROMPTS, **(options | {"edits": rerouting.off(3)}))
        assert [chat.token_ids for chat in batch] != [chat.token_ids for chat in plain]


def test_gradients_flow_through_a_steered_run(lab):
    vector, hook = a_vector(lab.config.d_model), f"blocks.{LAYER}.hook_resid_post"
    found = metrics.gradients(
        lab, [5, 6, 7], of=metrics.logit(20), hooks=["hook_embed"], edits=vector
    )
    by_hand = {hook: lambda value, name: value + vector[LAYER]}
    expected = metrics.gradients(
        lab, [5, 6, 7], of=metrics.logit(20), hooks=["hook_embed"], edits=by_hand
    )
    torch.testing.assert_close(found["hook_embed"], expected["hook_embed"])


def test_a_vector_is_not_changed_by_its_copies(lab):
    direction = torch.ones(lab.config.d_model)
    vector = Vector((Addition(0, direction),), "a test")
    direction.zero_()
    vector[0].zero_()
    assert vector == Vector((Addition(0, torch.ones(lab.config.d_model)),), "a test")
    assert vector != 2 * vector
    assert vector != vector.at(positions=[1])


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda d: Addition(0, torch.full((d,), torch.nan)), "layer 0 is NaN or infinite"),
        (lambda d: Addition(-1, torch.ones(d)), "layer -1 is negative"),
        (lambda d: Addition(0, torch.ones(d), "attn.hook_z"), "no hook of a layer with an axis"),
        (lambda d: Vector((), "nothing"), "no directions"),
        (lambda d: a_vector(d) + a_vector(d + 1), f"d_model is {32} and {33}"),
        (lambda d: a_vector(d).at(positions=-1), "a position is negative"),
        (lambda d: a_vector(d).at(positions=[]), "list of positions is empty"),
        (lambda d: a_vector(d).at(positions="late"), "expected numbers, a slice"),
        (lambda d: "4" * a_vector(d), "the strength is '4': expected a number"),
        (lambda d: float("nan") * a_vector(d), "expected a number"),
        (lambda d: float("inf") * a_vector(d), "expected a finite number"),
        (lambda d: a_vector(d)[0], "0 directions at layer 0: its layers are 1"),
    ],
)
def test_what_is_no_vector_is_refused(made, message):
    with pytest.raises(ValueError, match=message):
        made(32)


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (a_vector(31), "has d_model 31, and this model 32: give a vector"),
        (a_vector(32, layer=3), "layer 3 of the vector does not exist: .* layers 0 to 2"),
    ],
)
def test_a_vector_of_another_model_is_refused_before_the_run(lab, vector, message):
    with pytest.raises(HookError, match=message):
        lab.record(PROMPTS[0], edits=vector)


def test_the_summary_says_what_is_added_where(lab):
    vector = a_vector(lab.config.d_model).at(positions=slice(2, 5)) + a_vector(32, layer=2)
    assert "layers 1, 2" in repr(vector) and "tokens from 2 to 4" in repr(vector)
    table = vector.to_pandas()
    assert table.layer.tolist() == [1, 2]
    assert table.norm.tolist() == pytest.approx([float(vector[n].norm()) for n in (1, 2)])
