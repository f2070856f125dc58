import numpy as np
import pytest
import torch

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.text.prompt import as_prompts, prompt_ids
from qwen3lab.tiny.world.tokenizer import N_VOCAB

CONFIG = Qwen3Config(
    d_model=32, n_layers=1, n_heads=2, n_kv_heads=1, d_head=16, d_mlp=8, d_vocab=N_VOCAB, n_ctx=40
)


def ids(tokenizer, prompt, **options):
    return prompt_ids(tokenizer, CONFIG, prompt, **options)


def test_text_is_encoded_without_a_template(tiny_tokenizer):
    assert tiny_tokenizer.decode(ids(tiny_tokenizer, "3+2=?")) == "3+2=?"


def test_special_tokens_in_a_text_become_single_ids(tiny_tokenizer):
    assert len(ids(tiny_tokenizer, "<|im_start|><think>")) == 2


def test_token_ids_are_returned_unchanged(tiny_tokenizer):
    assert ids(tiny_tokenizer, [5, 6, 7]) == [5, 6, 7]
    assert ids(tiny_tokenizer, torch.tensor([5, 6, 7])) == [5, 6, 7]


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("prompt", ["3+2=?", [5, 6, 7]])
def test_a_thinking_mode_needs_a_conversation(tiny_tokenizer, prompt, thinking):
    with pytest.raises(ValueError, match=f"thinking={thinking} sets the chat template, and this"):
        ids(tiny_tokenizer, prompt, thinking=thinking)


def test_messages_are_rendered_up_to_the_start_of_the_reply(tiny_tokenizer):
    talk = [{"role": "user", "content": "Hi"}]
    text = tiny_tokenizer.decode(ids(tiny_tokenizer, talk))
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert "</think>" in tiny_tokenizer.decode(ids(tiny_tokenizer, talk, thinking=False))
    asked = [{"role": "user", "content": "Hi /no_think"}]
    assert "</think>" not in tiny_tokenizer.decode(ids(tiny_tokenizer, asked))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "the prompt is empty"),
        ([], "the prompt is empty"),
        ([0, N_VOCAB], f"token {N_VOCAB} does not exist: the vocabulary has tokens 0 to"),
        ([-1], "token -1 does not exist"),
        (torch.tensor([[1, 2], [3, 4]]), r"the prompt has the shape \(2, 2\)"),
        (np.array([[1, 2]]), r"the prompt has the shape \(1, 2\)"),
        (torch.tensor(3), r"the prompt has the shape \(\)"),
        (torch.tensor([1.0]), "the dtype torch.float32: expected integer token ids"),
        (torch.tensor([True]), "the dtype torch.bool"),
        (np.array([1.5]), "the dtype float64"),
        (np.array([False]), "the dtype bool"),
        (torch.tensor([]), "the prompt is empty"),
        ([1.0, 2.0], r"holds no ids \(1\.0\)"),
        ([True, False], r"holds no ids \(True\)"),
        ([torch.tensor(True)], "holds no ids"),
        ([torch.tensor(1.5)], "holds no ids"),
        ([None], r"holds no ids \(None\)"),
        ([[1, 2], [3]], "the prompt is a list of lists"),
        ([torch.tensor([1])], "the prompt is a list of lists"),
        (["a", "b"], "the prompt is a list that holds text"),
        ([{"role": "user", "content": "a"}, 5], "the prompt mixes kinds"),
        ({"input_ids": [1]}, "give one row of its 'input_ids'"),
        ({"role": "user", "content": "a"}, "a single message: put it in a list"),
        ({}, "the prompt is a dict"),
        (b"ab", "the prompt is of type bytes"),
        ({1, 2}, "the prompt is of type set"),
        (None, "the prompt is of type NoneType"),
        (5, "the prompt is of type int"),
        ([1] * 41, "the prompt has 41 tokens and the context holds 40"),
    ],
)
def test_prompts_that_cannot_run_are_refused(tiny_tokenizer, prompt, message):
    with pytest.raises(ValueError, match=message):
        ids(tiny_tokenizer, prompt)


def test_numpy_ids_become_plain_integers(tiny_tokenizer):
    assert ids(tiny_tokenizer, list(np.array([4, 5]))) == [4, 5]
    assert ids(tiny_tokenizer, np.array([4, 5])) == [4, 5]
    assert ids(tiny_tokenizer, [torch.tensor(4), np.int64(5), 6]) == [4, 5, 6]
    assert ids(tiny_tokenizer, range(4, 6)) == [4, 5]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ("3+2", "one text stands where a list of prompts"),
        (b"3+2", "one bytes stands where"),
        ([1, 2, 3], "one list of token ids stands where"),
        (torch.tensor([1, 2]), "one Tensor stands where"),
        (np.array([1, 2]), "one ndarray stands where"),
        ([{"role": "user", "content": "a"}], "one conversation stands where"),
        ({"input_ids": [[1]]}, "'input_ids'"),
        ({"a", "b"}, "one set stands where"),
        (None, "one NoneType stands where"),
        (7, "one int stands where"),
    ],
)
def test_one_prompt_in_place_of_several_is_refused(prompts, message):
    with pytest.raises(ValueError, match=message):
        as_prompts(prompts)


def test_the_rows_of_a_matrix_and_what_can_be_iterated_are_prompts():
    assert [row.tolist() for row in as_prompts(torch.tensor([[1, 2], [3, 4]]))] == [[1, 2], [3, 4]]
    assert as_prompts(iter(["a", [1]])) == ["a", [1]]
    assert as_prompts([]) == []
