"""Hidden tokens get no attention; an activation of one token is replaced and no other."""

import pytest
import torch

from qwen3lab.errors import HookError
from qwen3lab.interventions import replacing
from qwen3lab.interventions.replacing import AtToken
from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Qwen3
from tests.reference import small_config

IDS = [3, 14, 15, 9, 2, 6]


@pytest.fixture
def lab(tiny_tokenizer):
    model = Qwen3(small_config(d_vocab=1536))
    model.init_weights(torch.Generator().manual_seed(3), std=0.1)
    return Lab(model.eval(), tiny_tokenizer, "small")


def test_a_hidden_token_gets_no_weight_and_the_others_share_it(lab):
    before = lab.record(IDS).attention.pattern(0)
    found = lab.record(IDS, edits=replacing.hidden([1, 2])).attention.pattern(0)
    expected = before.clone()
    expected[:, 3:, 1:3] = 0
    expected /= expected.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(found, expected)


def test_hidden_tokens_see_each_other(lab):
    before, found = (
        lab.record(IDS, edits=edits).attention.pattern(0)
        for edits in ((), replacing.hidden(slice(1, 3)))
    )
    torch.testing.assert_close(found[:, 2], before[:, 2])


def test_hidden_tokens_change_nothing_where_nothing_follows(lab):
    found = lab.record(IDS, edits=replacing.hidden(len(IDS) - 1))
    torch.testing.assert_close(found.logits, lab.record(IDS).logits)


def test_the_last_logits_do_not_depend_on_what_is_hidden(lab):
    """The position of each token stays: another token in a hidden place changes nothing after."""
    other = [*IDS[:2], 77, *IDS[3:]]
    one, two = (lab.record(ids, edits=replacing.hidden(2)).logits for ids in (IDS, other))
    torch.testing.assert_close(one[3:], two[3:])
    assert not torch.allclose(one[2], two[2])


def test_a_reply_is_written_as_from_the_whole_text(lab):
    for edits in (
        replacing.hidden([2, 7]),
        replacing.hidden(slice(6, None, 2), layers=[1]),
        AtToken("blocks.1.hook_resid_post", 7, torch.ones(())),
        AtToken("hook_embed", 7, torch.ones(())),
    ):
        reply = lab.generate(IDS, max_new_tokens=5, edits=edits)
        ids = list(IDS)
        for token in reply.token_ids:
            assert int(lab.record(ids, edits=edits).logits[-1].argmax()) == token
            ids.append(token)


def test_each_prompt_of_a_batch_hides_its_own_tokens(lab):
    edits = replacing.hidden(1)
    together = lab.record_batch([IDS, IDS[:3]], edits=edits)
    for ids, found in zip((IDS, IDS[:3]), together, strict=True):
        torch.testing.assert_close(found.logits, lab.record(ids, edits=edits).logits)


def test_an_embedding_of_another_token_is_that_token(lab):
    vector = lab.model.embed.weight[77].detach()
    found = lab.record(IDS, edits=AtToken("hook_embed", 2, vector))
    expected = lab.record([*IDS[:2], 77, *IDS[3:]])
    torch.testing.assert_close(found.logits, expected.logits)


def test_a_layer_that_the_model_lacks_is_refused(lab):
    with pytest.raises(HookError, match="layer 99 does not exist"):
        lab.record(IDS, edits=replacing.hidden(1, layers=[99]))
