"""Edits in a batch act on each prompt as if it ran alone."""

import pytest
import torch

import qwen3lab
from qwen3lab.errors import HookError
from qwen3lab.generation.sampling import Sampling
from qwen3lab.hooks.edits import check_edit, listed_edits
from qwen3lab.interventions import rerouting

PROMPTS = ("3+2=?", "3+2*7-1+4*2-3=?", "1+1=?", "4*3+1-2*7=?")
EXPERTS = "blocks.2.mlp.hook_expert_indices"


@pytest.fixture(scope="module")
def moe():
    return qwen3lab.load("tiny-moe", device="cpu")


def zero_first(value, name):
    value[:, 0] = 0
    return value


def minus_mean(value, name):
    return value - value.mean(dim=1, keepdim=True)


def no_attention_to_the_first(value, name):
    value = value.clone()
    value[:, :, 1:, 0] = 0
    return value / value.sum(dim=-1, keepdim=True).clamp(min=1e-9)


def masked_diagonal(value, name):
    n = value.shape[-1]
    i = torch.arange(1, n)
    if value.shape[2] == n:
        value[:, :, i, i] = -torch.inf
        return value
    value[..., -1] = -torch.inf
    return value


def scribble(value, name):
    value.zero_()


CASES = {
    "the first position": {"blocks.1.hook_resid_post": zero_first},
    "a mean over positions": {"blocks.*.hook_resid_mid": minus_mean},
    "a reversal": {"blocks.3.attn.hook_z": lambda v, _: v.flip(1)},
    "the normalised stream": {"ln_final.hook_normalized": minus_mean},
    "the pattern": {"blocks.*.attn.hook_pattern": no_attention_to_the_first},
    "the scores": {"blocks.2.attn.hook_attn_scores": masked_diagonal},
    "written in place, returned as None": {"*": scribble},
    "fewer experts": {EXPERTS: lambda v, _: v[..., :2]},
    "more experts": {EXPERTS: lambda v, _: torch.cat([v, (v[..., :1] + 1) % 16], dim=-1)},
    "the first token's experts": {EXPERTS: lambda v, _: torch.cat([v[:, :1] * 0 + 3, v[:, 1:]], 1)},
    "several": [{"hook_embed": minus_mean}, rerouting.off(5), {"hook_unembed": zero_first}],
}


@pytest.mark.parametrize("case", CASES)
def test_an_edit_in_a_batch_equals_the_same_edit_of_each_prompt_alone(moe, case):
    edits = CASES[case]
    batch = moe.record_batch(PROMPTS, edits=edits)
    for prompt, recording in zip(PROMPTS, batch, strict=True):
        alone = moe.record(prompt, edits=edits)
        assert recording.token_ids.equal(alone.token_ids)
        torch.testing.assert_close(recording.logits, alone.logits, atol=2e-4, rtol=1e-4)
        assert recording.routing.experts.shape == alone.routing.experts.shape


@pytest.mark.parametrize(
    "edits",
    [
        {"blocks.*.attn.hook_pattern": no_attention_to_the_first},
        {"blocks.1.hook_resid_post": zero_first},
        [rerouting.top_k(2), {"blocks.1.hook_resid_mid": minus_mean}],
    ],
)
def test_edited_replies_of_a_batch_are_those_of_single_chats(moe, edits):
    options = {"edits": edits, "sampling": Sampling.greedy(), "max_new_tokens": 12}
    batch = moe.chat_batch(PROMPTS, **options)
    assert [chat.token_ids for chat in batch] == [
        moe.chat(prompt, **options).token_ids for prompt in PROMPTS
    ]


def test_an_edit_sees_the_lengths_of_the_prompts_and_not_that_of_the_batch(moe):
    seen = []
    moe.record_batch(PROMPTS[:2], edits={"hook_embed": lambda v, _: seen.append(tuple(v.shape))})
    lengths = [len(moe.token_ids(prompt)) for prompt in PROMPTS[:2]]
    assert sorted(seen) == sorted((1, length, 128) for length in lengths)


def test_prompts_of_equal_length_share_one_call_of_an_edit(moe):
    seen = []
    moe.record_batch(["1+1=?", "2+2=?"], edits={"hook_embed": lambda v, _: seen.append(len(v))})
    assert seen == [2]


def test_an_edit_sees_all_rows_of_a_decoding_step(moe):
    seen = []
    edits = {"blocks.0.hook_resid_pre": lambda v, _: seen.append(tuple(v.shape[:2]))}
    moe.chat_batch(
        PROMPTS[:2], edits=edits, sampling=Sampling.greedy(), thinking=False, max_new_tokens=3
    )
    assert set(seen[2:]) == {(2, 1)}


def test_numbers_of_experts_that_differ_between_prompts_are_refused(moe):
    def by_length(value, name):
        return value[..., : 1 if value.shape[1] < 6 else 3]

    with pytest.raises(HookError, match="1 experts for one prompt and 3 for another"):
        moe.record_batch(PROMPTS[:2], edits={EXPERTS: by_length})


def test_a_token_without_any_expert_is_refused_by_its_place(moe):
    def off(value, name):
        value[:, 2] = -1
        return value

    with pytest.raises(HookError, match="leave token 2 without an expert"):
        moe.record("3+2=?", edits={EXPERTS: off})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda value: value, "the edit of hook_embed is no function of two"),
        (lambda v, n: v.to("meta"), "returned a tensor without values"),
        (lambda v, n: v.to_sparse(), "returned a sparse tensor"),
    ],
)
def test_a_function_that_is_no_edit_is_refused_by_name(moe, edit, message):
    with pytest.raises(HookError, match=message):
        moe.record("3+2=?", edits={"hook_embed": edit})


# Called directly: the tests' type checker refuses these before `record` sees them.
@pytest.mark.parametrize("edits", [5, "x", b"x", [{}, 5], {"hook_embed"}])
def test_a_value_that_is_no_edits_is_refused(edits):
    with pytest.raises(HookError, match=r"edits has a value of type .*: expected a mapping"):
        listed_edits(edits)


def test_a_value_that_cannot_be_called_is_refused_as_an_edit():
    with pytest.raises(HookError, match=r"the edit of hook_embed is no function .* of type int"):
        check_edit(5, "hook_embed")


def test_functions_without_a_readable_signature_are_edits():
    check_edit(torch.add, "hook_embed")
