import numpy as np
import pytest
import torch

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.text.prompt import prompt_ids
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


def test_messages_are_rendered_up_to_the_start_of_the_reply(tiny_tokenizer):
    talk = [{"role": "user", "content": "Hi"}]
    text = tiny_tokenizer.decode(ids(tiny_tokenizer, talk))
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert "</think>" in tiny_tokenizer.decode(ids(tiny_tokenizer, talk, thinking=False))
    talk = [{"role": "user", "content": "Hi /no_think"}]
    assert "</think>" in tiny_tokenizer.decode(ids(tiny_tokenizer, talk))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "the prompt is empty"),
        ([], "the prompt is empty"),
        ([0, N_VOCAB], f"token {N_VOCAB} does not exist: the vocabulary has tokens 0 to"),
        ([-1], "token -1 does not exist"),
        ([1] * 41, "the prompt has 41 tokens and the context holds 40"),
    ],
)
def test_prompts_that_cannot_run_are_refused(tiny_tokenizer, prompt, message):
    with pytest.raises(ValueError, match=message):
        ids(tiny_tokenizer, prompt)


def test_numpy_ids_become_plain_integers(tiny_tokenizer):
    assert ids(tiny_tokenizer, list(np.array([4, 5]))) == [4, 5]
