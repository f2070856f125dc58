"""Writing a reply on from one of its tokens, compared with chats and generations from the ids."""

import threading
from dataclasses import replace

import pytest
import torch

from qwen3lab.generation import Extension, Sampling, Steering
from qwen3lab.interventions import rerouting

GREEDY = Sampling.greedy()
QUESTION = "3+2*7-1=?"


@pytest.fixture(scope="module")
def thinking(tiny_lab):
    return tiny_lab.chat(QUESTION, sampling=GREEDY)


@pytest.fixture(scope="module")
def direct(tiny_lab):
    return tiny_lab.chat(QUESTION, thinking=False, sampling=GREEDY)


def positions(chat, step=1):
    first = len(chat.prompt_ids)
    return range(first, first + len(chat.token_ids), step)


def positions_around_insertions(chat):
    """Every insertion's first, second and last token, and the tokens before and after it."""
    first, flags = len(chat.prompt_ids), [False, *chat.forced.tolist(), False]
    edges = [at for at in range(1, len(flags)) if flags[at] != flags[at - 1]]
    near = {at + by for at in edges for by in (-2, -1, 0, 1)}
    return [first + at for at in sorted(near) if 0 <= at < len(chat.token_ids)]


def again(lab, chat, position, **options):
    return lab.branch(chat, position, [*chat.prompt_ids, *chat.token_ids][position], **options)


def check_same(found, chat, index):
    """The same reply; what was chosen is marked."""
    assert found.token_ids == chat.token_ids
    for name in ("prompt_ids", "text", "thinking", "answer", "spans", "stop", "thinking_asked"):
        assert getattr(found, name) == getattr(chat, name), name
    assert (found.thinking_tokens, found.answer_tokens, found.messages) == (
        chat.thinking_tokens,
        chat.answer_tokens,
        chat.messages,
    )
    torch.testing.assert_close(found.logprobs, chat.logprobs, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.entropy, chat.entropy, atol=1e-4, rtol=1e-3)
    assert torch.equal(found.inserted, chat.inserted)
    marked = chat.forced.clone()
    marked[index] = True
    assert torch.equal(found.forced, marked)


def test_the_token_that_was_written_gives_the_same_greedy_reply(tiny_lab, thinking):
    for position in positions(thinking, step=9):
        found = again(tiny_lab, thinking, position, sampling=GREEDY)
        check_same(found, thinking, position - len(thinking.prompt_ids))


def test_the_token_that_was_written_gives_the_same_sampled_reply_with_the_same_seed(tiny_lab):
    options = {"sampling": Sampling(temperature=1.5), "seed": 11}
    chat = tiny_lab.chat(QUESTION, **options)
    assert chat.token_ids != tiny_lab.chat(QUESTION, **{**options, "seed": 12}).token_ids
    for position in positions(chat, step=9):
        check_same(
            again(tiny_lab, chat, position, **options), chat, position - len(chat.prompt_ids)
        )


@pytest.mark.parametrize("options", [{"budget": 9}, {"budget": 0}, {"extend": Extension(times=2)}])
def test_budget_and_refusals_are_counted_from_the_start_of_the_reply(tiny_lab, options):
    chat = tiny_lab.chat(QUESTION, sampling=GREEDY, **options)
    assert chat.forced.any()
    for position in positions_around_insertions(chat):
        index = position - len(chat.prompt_ids)
        found = again(tiny_lab, chat, position, sampling=GREEDY, **options)
        check_same(found, chat, index)
        assert found.chosen == (() if chat.forced[index] else (index,))


def test_a_thinking_that_was_stopped_on_request_stays_stopped(tiny_lab):
    steering = Steering()

    seen_steps = []

    def on_step(step):
        seen_steps.append(step)
        if len(seen_steps) == 6:
            steering.stop_thinking()

    chat = tiny_lab.chat(QUESTION, sampling=GREEDY, steering=steering, on_step=on_step)
    assert chat.stop == "asked"
    check_same(again(tiny_lab, chat, -2, sampling=GREEDY), chat, len(chat.token_ids) - 2)


def test_another_token_gives_what_is_generated_from_those_ids(tiny_lab, direct):
    (other,) = tiny_lab.token_ids("9")
    for position in positions(direct, step=3):
        index = position - len(direct.prompt_ids)
        if direct.token_ids[index] == other:
            continue
        found = tiny_lab.branch(direct, position, other, sampling=GREEDY)
        kept = [*direct.token_ids[:index], other]
        ids = [*direct.prompt_ids, *kept]
        alone = tiny_lab.generate(ids, max_new_tokens=tiny_lab.suggested.max_new_tokens)
        assert found.token_ids == [*kept, *alone.token_ids]
        assert found.chosen == (index,) and found.forced.tolist()[: index + 1] == [
            *[False] * index,
            True,
        ]
        torch.testing.assert_close(found.logprobs[index + 1 :], alone.logprobs)


def test_the_chosen_token_has_the_probability_that_the_model_gave_it(tiny_lab, direct):
    (other,) = tiny_lab.token_ids("9")
    first = len(direct.prompt_ids)
    found = tiny_lab.branch(direct, first, other, sampling=GREEDY)
    logits = tiny_lab.record(direct.prompt_ids).logits[-1]
    expected = logits.log_softmax(dim=-1)[other]
    torch.testing.assert_close(found.logprobs[0], expected, atol=1e-4, rtol=1e-3)


def test_a_chosen_end_of_thinking_is_followed_by_the_answer(tiny_lab, thinking):
    start = thinking.spans["thinking"][0]
    close = tiny_lab.marks.end_think
    found = tiny_lab.branch(thinking, start + 4, close, sampling=GREEDY)
    assert found.thinking == thinking.thinking[: len(found.thinking)] and found.answer
    assert found.spans["thinking"] == (start, start + 4)
    assert found.spans["answer"][0] > start + 4


def test_a_chosen_end_token_ends_the_reply(tiny_lab, direct):
    (end,) = tiny_lab.marks.ends & {direct.token_ids[-1]}
    found = tiny_lab.branch(direct, direct.spans["answer"][0] + 1, end, record=True)
    assert found.stop == "natural" and found.answer == direct.answer[:1]
    assert len(found.recording) == len(found.prompt_ids) + len(found.token_ids)


def test_a_branch_is_recorded_as_its_tokens_are(tiny_lab, thinking):
    position = thinking.spans["thinking"][0] + 7
    (other,) = tiny_lab.token_ids("1")
    found = tiny_lab.branch(thinking, position, other, sampling=GREEDY, record="hook_unembed")
    ids = [*found.prompt_ids, *found.token_ids]
    expected = tiny_lab.record(ids)
    assert found.recording.token_ids.tolist() == ids
    assert found.recording.spans == found.spans
    torch.testing.assert_close(found.recording.logits, expected.logits, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(
        found.recording.attention[2, 1], expected.attention[2, 1], atol=1e-4, rtol=1e-3
    )


def test_a_branch_has_the_edits_that_it_is_given(tiny_lab, direct):
    edits = rerouting.off([0, 1, 2], layers=3)
    options = {"sampling": GREEDY, "edits": edits}
    changed = tiny_lab.chat(QUESTION, thinking=False, **options)
    for position in positions(changed, step=3):
        check_same(
            again(tiny_lab, changed, position, **options),
            changed,
            position - len(changed.prompt_ids),
        )


def test_a_branch_of_a_branch_keeps_both_tokens(tiny_lab, thinking):
    (other,) = tiny_lab.token_ids("1")
    start = thinking.spans["thinking"][0]
    options = {"sampling": GREEDY, "budget": 20}
    one = tiny_lab.branch(thinking, start + 3, other, **options)
    two = tiny_lab.branch(one, start + 6, other, **options)
    first = len(thinking.prompt_ids)
    assert two.chosen == (start + 3 - first, start + 6 - first)
    assert two.token_ids[: start + 6 - first] == one.token_ids[: start + 6 - first]
    whole = again(tiny_lab, two, len(two.prompt_ids) + len(two.token_ids) - 1, **options)
    assert whole.thinking_tokens == two.thinking_tokens <= 20


def test_the_budget_of_a_branch_may_be_smaller_than_what_was_thought(tiny_lab, thinking):
    position = thinking.spans["thinking"][0] + 9
    found = again(tiny_lab, thinking, position, sampling=GREEDY, budget=4)
    after = found.token_ids[position - len(found.prompt_ids) + 1 :]
    stop = list(tiny_lab.marks.early_stop)
    assert after[: len(stop)] == stop and found.stop == "budget" and found.answer


def test_the_steps_and_the_length_of_a_branch_are_those_of_the_reply(tiny_lab, thinking):
    steps, position = [], len(thinking.prompt_ids) + 10
    found = again(
        tiny_lab, thinking, position, sampling=GREEDY, max_new_tokens=15, on_step=steps.append
    )
    assert [step.token_id for step in steps] == thinking.token_ids[10:15]
    assert [step.forced for step in steps] == [True, False, False, False, False]
    assert found.stop == "length" and len(found.token_ids) == 15


def test_an_interrupted_branch_keeps_its_tokens(tiny_lab, thinking):
    cancel = threading.Event()
    found = again(
        tiny_lab,
        thinking,
        len(thinking.prompt_ids) + 10,
        sampling=GREEDY,
        cancel=cancel,
        on_step=lambda _: cancel.set(),
    )
    assert found.stop == "interrupted" and found.token_ids == thinking.token_ids[:11]


def test_the_reply_that_is_branched_does_not_change(tiny_lab, thinking):
    before = replace(thinking, token_ids=[*thinking.token_ids], forced=thinking.forced.clone())
    again(tiny_lab, thinking, -5, sampling=GREEDY)
    assert thinking == before


def test_a_position_outside_of_the_reply_and_an_unknown_token_are_refused(tiny_lab, direct):
    first, n = len(direct.prompt_ids), len(direct.token_ids)
    there = f"the reply has tokens {first} to {first + n - 1}"
    with pytest.raises(ValueError, match=f"token 0 is of the prompt.*{there}"):
        tiny_lab.branch(direct, 0, 5)
    with pytest.raises(ValueError, match=f"token {first + n} does not exist.*{there}"):
        tiny_lab.branch(direct, first + n, 5)
    with pytest.raises(ValueError, match="token 999999 does not exist: the vocabulary has"):
        tiny_lab.branch(direct, first, 999_999)
