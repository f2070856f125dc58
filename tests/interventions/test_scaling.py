"""A scaled part writes a multiple of what it wrote: compared with plain edits of the same hooks."""

import pytest
import torch

from qwen3lab.errors import HookError
from qwen3lab.interventions import rerouting, scaling
from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Qwen3
from tests.reference import small_config

IDS = [3, 14, 15, 9, 2, 6]


@pytest.fixture
def lab(tiny_tokenizer):
    model = Qwen3(small_config(d_vocab=1536))
    model.init_weights(torch.Generator().manual_seed(3), std=0.1)
    return Lab(model.eval(), tiny_tokenizer, "small")


def times(hook, factor, *, at=slice(None), head=None):
    """A plain edit of all or some positions."""

    def edit(value, name):
        part = value[:, at] if head is None else value[:, at, head]
        part *= factor
        return value

    return {hook: edit}


CASES = {
    "head": (scaling.head(1, 2, by=-1.5), times("blocks.1.attn.hook_z", -1.5, head=2)),
    "head at tokens": (
        scaling.head(1, 2, tokens=slice(2, 4)),
        times("blocks.1.attn.hook_z", 0, at=slice(2, 4), head=2),
    ),
    "attention": (scaling.attention(0, by=2), times("blocks.0.hook_attn_out", 2)),
    "mlp": (scaling.mlp(1, by=0.5), times("blocks.1.hook_mlp_out", 0.5)),
    "mlp at a token": (scaling.mlp(1, tokens=3), times("blocks.1.hook_mlp_out", 0, at=slice(3, 4))),
    "layer": (
        scaling.layer(1),
        times("blocks.1.hook_attn_out", 0) | times("blocks.1.hook_mlp_out", 0),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_scaled_part_equals_a_plain_edit_of_its_hook(lab, case):
    ours, plain = CASES[case]
    expected = lab.record(IDS, edits=plain).logits
    assert torch.equal(lab.record(IDS, edits=ours).logits, expected)
    assert not torch.equal(expected, lab.record(IDS).logits)


def test_a_layer_without_its_parts_passes_the_stream_on(lab):
    hooks = ["blocks.1.hook_resid_pre", "blocks.1.hook_resid_post"]
    found = lab.record(IDS, capture=hooks, edits=scaling.layer(1))
    assert torch.equal(found[hooks[0]], found[hooks[1]])


def test_a_scaled_expert_is_chosen_as_before_and_adds_a_multiple(lab):
    layer = lab.config.moe_layers[0]
    names = [f"blocks.{layer}.mlp.hook_{each}" for each in ("expert_indices", "expert_weights")]
    before = lab.record(IDS, capture=names)
    expert = int(before[names[0]][2, 0])
    found = lab.record(IDS, capture=names, edits=scaling.expert(layer, expert, by=3.0))
    assert torch.equal(found[names[0]], before[names[0]])
    is_scaled = before[names[0]] == expert
    assert torch.equal(found[names[1]][is_scaled], 3.0 * before[names[1]][is_scaled])
    assert torch.equal(found[names[1]][~is_scaled], before[names[1]][~is_scaled])


def test_an_expert_is_scaled_where_a_later_edit_brings_it_in(lab):
    layer = lab.config.moe_layers[0]
    name = f"blocks.{layer}.mlp.hook_expert_"
    edits = [scaling.expert(layer, 5, by=0.0), rerouting.on(5, layers=layer)]
    found = lab.record(IDS, capture=[name + "indices", name + "weights"], edits=edits)
    is_scaled = found[name + "indices"] == 5
    assert is_scaled.any(dim=-1).all()
    assert not found[name + "weights"][is_scaled].any()


@pytest.mark.parametrize("tokens", [None, 7, slice(6, None)])
def test_a_reply_is_written_as_from_the_whole_text(lab, tokens):
    """Token by token with a cache, the positions of the scaled tokens are counted on."""
    edits = [scaling.head(1, 0, by=-2.0, tokens=tokens), scaling.mlp(2, by=3.0, tokens=tokens)]
    reply = lab.generate(IDS, max_new_tokens=5, edits=edits)
    ids = list(IDS)
    for token in reply.token_ids:
        assert int(lab.record(ids, edits=edits).logits[-1].argmax()) == token
        ids.append(token)


def test_each_prompt_of_a_batch_counts_its_own_tokens(lab):
    edits = scaling.mlp(0, tokens=[1, 4])
    together = lab.record_batch([IDS, IDS[:3]], edits=edits)
    for ids, found in zip((IDS, IDS[:3]), together, strict=True):
        torch.testing.assert_close(found.logits, lab.record(ids, edits=edits).logits)


@pytest.mark.parametrize(
    ("scaled", "message"),
    [
        (scaling.head(99, 0), "layer 99 does not exist"),
        (scaling.head(0, 99), "head 99 does not exist"),
        (scaling.expert(1, 999), "expert 999 does not exist"),
    ],
)
def test_a_part_that_the_model_lacks_is_refused(lab, scaled, message):
    with pytest.raises(HookError, match=message):
        lab.record(IDS, edits=scaled)


def test_a_negative_position_is_refused():
    with pytest.raises(HookError, match="token position is negative"):
        scaling.mlp(0, tokens=-1)
