"""Conversations of any form: rendered as by transformers byte for byte, or refused."""

import warnings

import pytest
from hypothesis import given, strategies as st

import qwen3lab
from qwen3lab import Sampling
from qwen3lab.text.chat_template import ROLES, render, render_ids
from tests.fuzz.cases import fuzz, refusable
from tests.fuzz.talks import talks, thinking_written

MODES = st.sampled_from([None, True, False])


def expected_text(tokenizer, talk, thinking, *, continued=False):
    """What transformers renders; None where it raises."""
    switch = {} if thinking is None else {"enable_thinking": thinking}
    try:
        return tokenizer.apply_chat_template(
            talk,
            tokenize=False,
            add_generation_prompt=not continued and talk[-1].get("role") != "assistant",
            continue_final_message=continued,
            **switch,
        )
    except Exception:
        return None


def is_well_formed(talk):
    """True if every message has a known role and text, or calls of an assistant without text."""
    return all(
        message.get("role") in ROLES
        and (
            isinstance(message.get("content"), str)
            or (
                message.get("content") is None
                and message["role"] == "assistant"
                and message.get("tool_calls")
            )
        )
        for message in talk
    )


def has_half_a_character(text):
    return any("\ud800" <= char <= "\udfff" for char in text)


def check_rendering(tokenizer, talk, thinking):
    expected = expected_text(tokenizer, talk, thinking)
    continues = talk[-1].get("role") == "assistant"
    with refusable() as outcome:
        outcome.value = render(
            tokenizer, talk, thinking=thinking, add_generation_prompt=not continues
        )
    assert outcome.value == (expected if is_well_formed(talk) else None)
    with refusable(ValueError) as outcome:
        outcome.value = render_ids(tokenizer, talk, thinking=thinking)
    if is_well_formed(talk) and expected is not None and not has_half_a_character(expected):
        assert outcome.value == tokenizer.encode(expected, add_special_tokens=False)
    else:
        assert outcome.refusal is not None


def check_continuation(tokenizer, talk, thinking):
    expected = expected_text(tokenizer, talk, thinking, continued=True)
    with refusable() as outcome:
        outcome.value = render(tokenizer, talk, thinking=thinking, continue_reply=True)
    last = talk[-1]
    empty = not isinstance(last.get("content"), str) or not last["content"].strip()
    if not is_well_formed(talk) or expected is None or last.get("tool_calls") or empty:
        assert outcome.refusal is not None
    else:
        assert outcome.value == expected


@fuzz("chats", 0.5)
@given(talk=talks, thinking=MODES)
def test_conversations_render_with_the_embedded_template_as_in_transformers(
    tiny_tokenizer, talk, thinking
):
    check_rendering(tiny_tokenizer, talk, thinking)
    check_continuation(tiny_tokenizer, talk, thinking)


@fuzz("chats", 0.3)
@given(talk=talks, thinking=MODES)
def test_conversations_render_with_the_published_template_as_in_transformers(
    published_tokenizer, talk, thinking
):
    check_rendering(published_tokenizer, talk, thinking)
    check_continuation(published_tokenizer, talk, thinking)


@pytest.fixture(scope="module")
def lab():
    return qwen3lab.load("tiny-dense", device="cpu")


@fuzz("chats", 0.2)
@given(
    talk=talks,
    thinking=MODES,
    budget=st.none() | st.integers(0, 12),
    temperature=st.sampled_from([0.0, 0.7, 3.0]),
    seed=st.integers(0, 99),
)
def test_replies_start_from_that_text_and_think_within_the_budget(
    lab, talk, thinking, budget, temperature, seed
):
    continued = talk[-1].get("role") == "assistant"
    expected = expected_text(lab.tokenizer, talk, thinking, continued=continued)
    with refusable(ValueError) as outcome, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # That the model may think all the same.
        outcome.value = lab.chat(
            talk,
            thinking=thinking,
            budget=budget,
            sampling=Sampling(temperature=temperature),
            seed=seed,
            max_new_tokens=24,
        )
    chat = outcome.value
    if chat is None:
        return
    assert is_well_formed(talk)
    assert chat.prompt_ids == lab.tokenizer.encode(expected, add_special_tokens=False)
    written = thinking_written(lab.tokenizer, chat.prompt_ids, chat.token_ids, chat.forced.tolist())
    assert budget is None or written <= budget
