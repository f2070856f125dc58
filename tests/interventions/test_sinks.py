"""A made-up sink raises the weight of the first token as the closed form says."""

import math

import pytest
import torch

from qwen3lab.errors import HookError
from qwen3lab.interventions.sinks import MadeUpSink
from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Qwen3
from tests.reference import small_config

IDS = [3, 14, 15, 9, 2, 6]


@pytest.fixture
def lab(tiny_tokenizer):
    model = Qwen3(small_config(d_vocab=1536))
    model.init_weights(torch.Generator().manual_seed(3))
    return Lab(model.eval(), tiny_tokenizer, "small")


def test_the_weight_of_the_first_token_follows_from_the_softmax(lab):
    before = lab.record(IDS).attention.pattern(0)[:, :, 0]
    found = lab.record(IDS, edits=MadeUpSink(nats=2.0, layers=[0])).attention.pattern(0)[:, :, 0]
    factor = math.exp(2.0)
    torch.testing.assert_close(found, before * factor / (1 - before + before * factor))


def test_other_layers_keep_their_scores_until_the_stream_changes(lab):
    plain = lab.record(IDS, capture="blocks.0.hook_resid_post")
    edited = lab.record(IDS, capture="blocks.0.hook_resid_post", edits=MadeUpSink(layers=[1]))
    assert torch.equal(plain["blocks.0.hook_resid_post"], edited["blocks.0.hook_resid_post"])
    assert not torch.equal(plain.logits, edited.logits)


def test_each_prompt_of_a_batch_has_its_own_first_token(lab):
    sink = MadeUpSink()
    together = lab.record_batch([IDS, IDS[:3]], edits=sink)
    for prompt, found in zip((IDS, IDS[:3]), together, strict=True):
        alone = lab.record(prompt, edits=sink)
        torch.testing.assert_close(found.logits, alone.logits, atol=1e-5, rtol=1e-4)


def test_a_reply_has_the_sink_in_every_step(lab):
    sink = MadeUpSink()
    hook = "blocks.2.hook_resid_post"
    reply = lab.generate(IDS, max_new_tokens=4, edits=sink, record=[hook])
    whole = lab.record([*IDS, *reply.token_ids], capture=hook, edits=sink)
    n = len(reply.recording)
    assert n > len(IDS)
    torch.testing.assert_close(reply.recording[hook], whole[hook][:n], atol=1e-5, rtol=1e-4)


def test_a_layer_that_does_not_exist_is_refused(lab):
    with pytest.raises(HookError, match="layer 3 does not exist: the model has layers 0 to 2"):
        lab.record(IDS, edits=MadeUpSink(layers=[3]))
