"""What an edit returns is a copy of finite numbers, or it is refused with its place."""

import re

import pytest
import torch

import qwen3lab
from qwen3lab.errors import HookError
from qwen3lab.generation.sampling import Sampling

ROUTER = "blocks.2.mlp.hook_router_logits"
EXPERTS = "blocks.2.mlp.hook_expert_indices"
SCORES = "blocks.1.attn.hook_attn_scores"


@pytest.fixture(scope="module")
def moe():
    return qwen3lab.load("tiny-moe", device="cpu")


def at(token, number):
    """An edit that writes a number at one token."""

    def edit(value, name):
        value[:, token] = number
        return value

    return edit


def no_keys(value, name):
    value[:, :, -1] = -torch.inf
    return value


@pytest.mark.parametrize(
    ("hook", "edit", "message"),
    [
        ("blocks.2.ln1.hook_scale", at(1, torch.inf), "make token 1 NaN or infinite in float32"),
        ("blocks.2.hook_resid_post", at(3, torch.nan), "make token 3 NaN or infinite"),
        ("blocks.2.attn.hook_v", at(2, -torch.inf), "make token 2 NaN or infinite"),
        (ROUTER, at(2, -torch.inf), "rule out every expert of token 2: leave at least one"),
        (ROUTER, at(0, torch.inf), "make token 0 NaN or infinite"),
        (SCORES, no_keys, "rule out every key of token 3: leave at least one"),
        ("hook_unembed", at(3, -torch.inf), "rule out every token of the vocabulary of token 3"),
        (EXPERTS, at(2, -1), "leave token 2 without an expert"),
        (EXPERTS, lambda v, _: v.float() + 0.7, "returned torch.float32: expected integers"),
        (EXPERTS, lambda v, _: v > 3, "returned torch.bool: expected integers"),
        ("hook_embed", lambda v, _: v + 1j, "returned torch.complex64: expected real numbers"),
    ],
)
def test_values_that_make_numbers_vanish_are_refused_by_hook_and_token(moe, hook, edit, message):
    expected = moe.record("3+2=?").logits
    with pytest.raises(HookError, match=re.escape(message)) as caught:
        moe.record("3+2=?", edits={hook: edit})
    assert hook in str(caught.value)
    assert torch.equal(moe.record("3+2=?").logits, expected)


def test_the_token_is_counted_in_its_own_prompt_and_in_the_whole_reply(moe):
    def last(value, name):
        value[:, -1] = torch.nan
        return value

    prompts = ["3+2*7-1=?", "3=?"]
    lengths = [len(moe.token_ids(prompt)) for prompt in prompts]
    with pytest.raises(HookError, match=rf"token {lengths[0] - 1} of prompt 0"):
        moe.record_batch(prompts, edits={"hook_embed": last})

    def in_the_third_step(value, name):
        seen.append(value.shape[1])
        return value * (torch.nan if len(seen) == 3 else 1)

    seen: list[int] = []
    options = {"sampling": Sampling.greedy(), "max_new_tokens": 5}
    n_prompt = len(moe.chat("3=?", **options).prompt_ids)
    with pytest.raises(HookError, match=rf"make token {n_prompt + 1} NaN"):
        moe.chat("3=?", edits={"hook_embed": in_the_third_step}, **options)


def test_minus_infinity_may_rule_out_some_keys_experts_and_tokens(moe):
    def some(value, name):
        value[..., 1] = -torch.inf
        value[..., 0] = torch.where(value[..., 0].isfinite(), value[..., 0], 0)
        return value

    recording = moe.record("3+2=?", edits={ROUTER: some, SCORES: some, "hook_unembed": some})
    assert recording.logits[:, 1].isneginf().all()
    assert not (recording.routing.layer(2).experts == 1).any()


def test_values_of_several_edits_are_checked_after_the_last_one(moe):
    def mended(value, name):
        return value.nan_to_num(0)

    edits = [{"blocks.2.hook_mlp_out": at(1, torch.nan)}, {"blocks.2.hook_mlp_out": mended}]
    zero = {"blocks.2.hook_mlp_out": at(1, 0)}
    found, expected = (moe.record("3+2=?", edits=each).logits for each in (edits, zero))
    assert torch.equal(found, expected)


def test_a_tensor_that_an_edit_keeps_and_changes_later_leaves_the_recording_as_it_is(moe):
    steering, seen = torch.zeros(1, 4, 128), []

    def keep(value, name):
        seen.append(value)
        return value

    hooks = ["blocks.2.hook_mlp_out", "blocks.3.hook_mlp_out"]
    edits = {hooks[0]: lambda v, _: steering, hooks[1]: keep}
    recording = moe.record("3+2=?", edits=edits, capture=hooks)
    before = [recording[hook] for hook in hooks]
    steering += 1
    seen[0] += 1
    assert all(torch.equal(recording[h], b) for h, b in zip(hooks, before, strict=True))


def test_experts_whose_router_probability_underflows_are_refused(moe):
    def far_apart(value, name):
        value[..., :4] = 500
        return value

    edits = {ROUTER: far_apart, EXPERTS: lambda v, _: torch.full_like(v, 9)}
    with pytest.raises(HookError, match=r"blocks.2.* experts of router probability 0"):
        moe.record("3+2=?", edits=edits)


@pytest.mark.parametrize("record", [False, True])
def test_an_edits_own_exception_passes_unchanged_and_leaves_nothing_behind(moe, record):
    def fails(value, name):
        calls.append(name)
        if len(calls) == 3:
            raise ZeroDivisionError("my own")
        return value

    calls: list[str] = []
    options = {"sampling": Sampling.greedy(), "max_new_tokens": 8, "record": record}
    expected = moe.chat("3+2=?", **options)
    with pytest.raises(ZeroDivisionError, match=r"^my own$"):
        moe.chat("3+2=?", edits={"blocks.2.hook_resid_post": fails}, **options)
    assert not moe.lock._is_owned()
    assert torch.is_grad_enabled()
    assert moe.chat("3+2=?", **options) == expected
