"""Chats of a bounded batch are those of single chats."""

import pytest
import torch

import qwen3lab
from qwen3lab import Extension, Sampling
from tests.conftest import DEVICE

QUESTIONS = ["3+4=?", "3+2*7-1=?", "12+7*3-4=?", "1+1=?", "7*3*3+1=?"]
TALK = [
    {"role": "system", "content": "1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9 + " * 2},
    {"role": "user", "content": "3+4=?"},
]
CASES = {
    "a budget": {"budget": 6},
    "an extension": {"extend": Extension(times=1), "budget": 40},
    "a stop string": {"stop": ["④", "\n\n"], "thinking": False},
    "a limit": {"max_new_tokens": 9},
    "recorded": {"record": "blocks.1.attn.hook_pattern", "max_new_tokens": 12},
}


@pytest.fixture(scope="module", params=["tiny-dense", "tiny-moe"])
def lab(request):
    return qwen3lab.load(request.param, device=DEVICE, dtype="float32")


def check_equal(chat, alone):
    for name in ("token_ids", "text", "thinking", "answer", "stop", "thinking_tokens", "spans"):
        assert getattr(chat, name) == getattr(alone, name), name
    assert chat.forced.equal(alone.forced)
    torch.testing.assert_close(chat.logprobs, alone.logprobs, atol=1e-3, rtol=1e-3)
    assert (chat.recording is None) == (alone.recording is None)
    if chat.recording is not None:
        assert chat.recording.tokens == alone.recording.tokens
        assert chat.recording.capture == alone.recording.capture
        pattern = "blocks.1.attn.hook_pattern"
        torch.testing.assert_close(
            chat.recording[pattern], alone.recording[pattern], atol=1e-3, rtol=1e-3
        )


@pytest.mark.parametrize("case", CASES)
def test_chats_that_make_room_for_each_other_equal_single_chats(lab, case):
    options = CASES[case] | {"sampling": Sampling(temperature=0.8)}
    chats = lab.chat_batch(QUESTIONS, batch=2, seed=3, **options)
    for row, (question, chat) in enumerate(zip(QUESTIONS, chats, strict=True)):
        check_equal(chat, lab.chat(question, seed=3 + row, **options))


def test_chats_with_a_shared_system_message_equal_single_chats(lab):
    talks = [[TALK[0], {"role": "user", "content": question}] for question in QUESTIONS]
    options = CASES["recorded"] | {"sampling": Sampling.greedy()}
    chats = lab.chat_batch([*talks, QUESTIONS[0]], batch=3, **options)
    for talk, chat in zip([*talks, QUESTIONS[0]], chats, strict=True):
        check_equal(chat, lab.chat(talk, **options))


def test_each_reply_is_streamed_under_its_own_number(lab):
    steps = []
    options = {"sampling": Sampling.greedy(), "max_new_tokens": 20}
    chats = lab.chat_batch(QUESTIONS, batch=2, on_step=steps.append, **options)
    for row, chat in enumerate(chats):
        own = [step for step in steps if step.row == row]
        assert [step.token_id for step in own] == chat.token_ids
        for part in ("thinking", "answer"):
            text = "".join(step.text for step in own if step.part == part)
            assert text.strip() == getattr(chat, part)


def test_an_interrupt_keeps_what_was_generated_and_says_what_had_not_begun(lab):
    options = {"sampling": Sampling.greedy(), "max_new_tokens": 20, "record": True}
    whole = lab.chat_batch(QUESTIONS, batch=2, **options)
    n_shown = len(whole[0].token_ids) + len(whole[1].token_ids)

    shown = []

    def interrupt(step):
        shown.append(step)
        if len(shown) == n_shown:
            raise KeyboardInterrupt

    chats = lab.chat_batch(QUESTIONS, batch=2, on_step=interrupt, **options)
    assert sum(len(chat.token_ids) for chat in chats) >= n_shown
    for chat, other in zip(chats, whole, strict=True):
        n = len(chat.token_ids)
        assert chat.token_ids == other.token_ids[:n]
        assert chat.stop == (other.stop if n == len(other.token_ids) else "interrupted")
        if n:
            ids = [*chat.prompt_ids, *chat.token_ids]
            assert chat.recording.token_ids.tolist() in (ids, ids[:-1])
    assert (chats[-1].token_ids, chats[-1].recording) == ([], None)


def test_batches_with_edits_follow_each_other(lab):
    def halve(value, name):
        return value * 0.5

    steps, edits = [], {"blocks.1.hook_mlp_out": halve}
    options = {"edits": edits, "sampling": Sampling.greedy(), "max_new_tokens": 8}
    chats = lab.chat_batch(QUESTIONS, batch=2, on_step=steps.append, **options)
    for row, (question, chat) in enumerate(zip(QUESTIONS, chats, strict=True)):
        assert chat.token_ids == lab.chat(question, **options).token_ids
        assert [step.token_id for step in steps if step.row == row] == chat.token_ids


def test_an_interrupt_of_a_batch_with_edits_leaves_the_next_one_empty(lab):
    def interrupt(step):
        raise KeyboardInterrupt

    edits = {"hook_embed": lambda value, name: value}
    options = {"sampling": Sampling.greedy(), "max_new_tokens": 8, "edits": edits}
    chats = lab.chat_batch(QUESTIONS, batch=2, on_step=interrupt, **options)
    assert [chat.stop for chat in chats] == ["interrupted"] * 5
    assert [len(chat.token_ids) for chat in chats] == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("batch", [0, -1, 1.5, True])
def test_a_batch_that_is_no_number_of_replies_is_refused(lab, batch):
    with pytest.raises(ValueError, match="batch is"):
        lab.chat_batch(QUESTIONS, batch=batch)
